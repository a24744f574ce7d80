"""A campaign for people: the façade, and what makes its rounds run by themselves."""
