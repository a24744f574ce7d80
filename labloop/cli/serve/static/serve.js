// What pages do better with a script; all of them work without it.
"use strict";

// Files may be dropped on the form, and one that is too large is refused before it is sent.
for (const form of document.querySelectorAll("[data-drop]")) {
  const input = form.querySelector("input[type=file]");
  const look = () => {
    const file = input.files[0];
    const large = file && file.size > Number(form.dataset.largest);
    input.setCustomValidity(large ? "This file is too large for the page: use labloop ingest." : "");
    if (large) input.reportValidity();
  };
  input.addEventListener("change", look);
  for (const kind of ["dragover", "dragenter"]) {
    form.addEventListener(kind, (event) => { event.preventDefault(); form.classList.add("over"); });
  }
  form.addEventListener("dragleave", () => form.classList.remove("over"));
  form.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    if (event.dataTransfer.files.length) {
      input.files = event.dataTransfer.files;
      look();
      if (form.checkValidity()) form.requestSubmit();
    }
  });
}

// Arrow keys go from well to well; only one well of a plate is a stop of the tabulator key.
for (const table of document.querySelectorAll("[data-wells]")) {
  const wells = [...table.querySelectorAll("a")];
  const stop = table.querySelector("a.chosen") || wells[0];
  for (const one of wells) one.tabIndex = one === stop ? 0 : -1;
  table.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    const cell = event.target.closest("td");
    if (!step || !cell) return;
    event.preventDefault();
    let [row, column] = [cell.parentElement.rowIndex, cell.cellIndex];
    for (;;) {
      [row, column] = [row + step[0], column + step[1]];
      const next = table.rows[row] && table.rows[row].cells[column];
      if (!next || row === 0 || column === 0) return;
      const well = next.querySelector("a");
      if (well) {
        event.target.tabIndex = -1;
        well.tabIndex = 0;
        well.focus();
        return;
      }
    }
  });
}

// Whoever presses a button twice does one thing.
document.addEventListener("submit", (event) => {
  const button = event.submitter;
  if (button) setTimeout(() => { button.disabled = true; }, 0);
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("button:disabled")) button.disabled = false;
});
