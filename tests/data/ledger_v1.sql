BEGIN TRANSACTION;
CREATE TABLE campaign (
	id INTEGER NOT NULL, 
	name TEXT NOT NULL, 
	config TEXT NOT NULL, 
	at TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "campaign" VALUES(1,'tfbind8','{"schema_version":1,"name":"tfbind8","description":"Find DNA 8-mers that SIX6 binds tightly (protein-binding microarray E-scores, Barrera et al., Science 2016).","space":{"parameters":[{"name":"dna","type":"sequence","length":8,"alphabet":"ACGT"}],"constraints":[],"symmetries":["reverse_complement"]},"objective":{"assay":"pbm","direction":"max","unit":"","transform":"identity"},"assays":{"pbm":{"columns":{},"units":{},"low":null,"high":null,"read":null,"decimal":null,"reader":null}},"plate":{"wells":96,"controls":[],"edge":"use"},"rounds":4,"seed":0}','2026-11-22T01:36:12.176015+00:00');
CREATE TABLE design (
	campaign INTEGER NOT NULL, 
	design_id TEXT NOT NULL, 
	"values" TEXT NOT NULL, 
	in_space BOOLEAN NOT NULL, 
	PRIMARY KEY (campaign, design_id), 
	FOREIGN KEY(campaign) REFERENCES campaign (id)
)
 WITHOUT ROWID

;
INSERT INTO "design" VALUES(1,'08a212c211f8','{"dna":"ACGTACGT"}',1);
INSERT INTO "design" VALUES(1,'090f5b9a8958','{"dna":"ACGTACGG"}',1);
INSERT INTO "design" VALUES(1,'1d5e334ad2ec','{"dna":"ACGTACGA"}',1);
INSERT INTO "design" VALUES(1,'83f681dded36','{"dna":"ACGTACGC"}',1);
INSERT INTO "design" VALUES(1,'a904f498414e','{"dna":"AACGTACC"}',1);
CREATE TABLE event (
	id INTEGER NOT NULL, 
	campaign INTEGER NOT NULL, 
	round INTEGER, 
	kind TEXT NOT NULL, 
	state TEXT, 
	detail TEXT, 
	at TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (campaign, round, state), 
	FOREIGN KEY(campaign, round) REFERENCES round (campaign, number), 
	FOREIGN KEY(campaign) REFERENCES campaign (id)
);
CREATE TABLE ledger_version (
	version INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "ledger_version" VALUES(1,'2026-11-22T01:36:12.165916+00:00');
CREATE TABLE measurement (
	id INTEGER NOT NULL, 
	campaign INTEGER NOT NULL, 
	file INTEGER NOT NULL, 
	"row" INTEGER NOT NULL, 
	design_id TEXT, 
	assay TEXT NOT NULL, 
	value FLOAT, 
	qualifier TEXT NOT NULL, 
	unit TEXT, 
	status TEXT NOT NULL, 
	plate TEXT, 
	well TEXT, 
	round INTEGER, 
	measured_at TEXT, 
	note TEXT, 
	supersedes INTEGER, 
	PRIMARY KEY (id), 
	FOREIGN KEY(campaign, design_id) REFERENCES design (campaign, design_id), 
	CONSTRAINT qualifier_known CHECK (qualifier IN ('=', '<', '>')), 
	FOREIGN KEY(campaign) REFERENCES campaign (id), 
	FOREIGN KEY(file) REFERENCES source_file (id), 
	FOREIGN KEY(supersedes) REFERENCES measurement (id)
);
INSERT INTO "measurement" VALUES(1,1,1,2,'08a212c211f8','pbm',0.0,'=','','ok',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES(2,1,1,3,'090f5b9a8958','pbm',0.1,'=','','ok',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES(3,1,1,4,'83f681dded36','pbm',0.2,'=','','ok',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES(4,1,1,5,'1d5e334ad2ec','pbm',0.3,'=','','ok',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES(5,1,1,6,'a904f498414e','pbm',0.41,'=','','ok',NULL,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "measurement" VALUES(6,1,1,7,'a904f498414e','pbm',0.43,'=','','ok',NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE pick (
	id INTEGER NOT NULL, 
	campaign INTEGER NOT NULL, 
	round INTEGER NOT NULL, 
	arm TEXT NOT NULL, 
	rank INTEGER NOT NULL, 
	design_id TEXT NOT NULL, 
	proposer TEXT NOT NULL, 
	score FLOAT, 
	mean FLOAT, 
	std FLOAT, 
	lcb FLOAT, 
	nearest_id TEXT, 
	nearest_distance FLOAT, 
	PRIMARY KEY (id), 
	UNIQUE (campaign, round, arm, rank), 
	UNIQUE (campaign, round, arm, design_id), 
	FOREIGN KEY(campaign, round) REFERENCES round (campaign, number), 
	FOREIGN KEY(campaign, design_id) REFERENCES design (campaign, design_id), 
	FOREIGN KEY(campaign) REFERENCES campaign (id)
);
CREATE TABLE proposal (
	run INTEGER NOT NULL, 
	rank INTEGER NOT NULL, 
	campaign INTEGER NOT NULL, 
	design_id TEXT NOT NULL, 
	score FLOAT, 
	PRIMARY KEY (run, rank), 
	FOREIGN KEY(campaign, design_id) REFERENCES design (campaign, design_id), 
	UNIQUE (run, design_id), 
	FOREIGN KEY(run) REFERENCES run (id), 
	FOREIGN KEY(campaign) REFERENCES campaign (id)
);
CREATE TABLE round (
	campaign INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	config TEXT NOT NULL, 
	seed BIGINT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	incumbent FLOAT, 
	snapshot BIGINT NOT NULL, 
	at TEXT NOT NULL, 
	PRIMARY KEY (campaign, number), 
	FOREIGN KEY(campaign) REFERENCES campaign (id)
);
CREATE TABLE run (
	id INTEGER NOT NULL, 
	campaign INTEGER NOT NULL, 
	round INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	proposer TEXT NOT NULL, 
	arm TEXT, 
	options TEXT NOT NULL, 
	seed BIGINT NOT NULL, 
	fingerprint TEXT NOT NULL, 
	device TEXT, 
	seconds FLOAT, 
	cpu_seconds FLOAT, 
	versions TEXT NOT NULL, 
	notes TEXT NOT NULL, 
	at TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (campaign, round, "key"), 
	FOREIGN KEY(campaign, round) REFERENCES round (campaign, number), 
	FOREIGN KEY(campaign) REFERENCES campaign (id)
);
CREATE TABLE source_file (
	id INTEGER NOT NULL, 
	campaign INTEGER NOT NULL, 
	sha256 TEXT NOT NULL, 
	name TEXT NOT NULL, 
	n_rows INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (campaign, sha256), 
	FOREIGN KEY(campaign) REFERENCES campaign (id)
);
INSERT INTO "source_file" VALUES(1,1,'c42a4cc13a4e372cdd466a3d42cf943479636ea79010e455b700ac78e217ff1c','start.csv',6,'2026-11-22T01:36:12.312079+00:00');
CREATE TABLE well (
	id INTEGER NOT NULL, 
	campaign INTEGER NOT NULL, 
	round INTEGER NOT NULL, 
	plate TEXT NOT NULL, 
	well TEXT NOT NULL, 
	"row" INTEGER NOT NULL, 
	"column" INTEGER NOT NULL, 
	design_id TEXT, 
	control TEXT, 
	PRIMARY KEY (id), 
	UNIQUE (campaign, plate, well), 
	CONSTRAINT design_or_control CHECK (design_id IS NULL OR control IS NULL), 
	FOREIGN KEY(campaign, round) REFERENCES round (campaign, number), 
	FOREIGN KEY(campaign, design_id) REFERENCES design (campaign, design_id), 
	FOREIGN KEY(campaign) REFERENCES campaign (id)
);
CREATE INDEX measurement_of_campaign ON measurement (campaign);
CREATE UNIQUE INDEX measurement_superseded ON measurement (supersedes) WHERE supersedes IS NOT NULL;
COMMIT;
