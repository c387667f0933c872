-- A search for the best plan as it was asked for, and how far it is. What it asks are cells of
-- studies without a study file.
CREATE TABLE searches (
    id INTEGER PRIMARY KEY,
    file TEXT NOT NULL UNIQUE,      -- as YAML
    name TEXT NOT NULL,
    model_name TEXT NOT NULL,
    kept TEXT NOT NULL DEFAULT '{}',    -- what was measured of the machine, as JSON
    share REAL NOT NULL,            -- how much of it is done, about
    doing TEXT NOT NULL,            -- what it is at
    plans INTEGER NOT NULL,         -- that were asked anything
    command TEXT NOT NULL,          -- what started the last run, and where
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    began REAL NOT NULL,
    ended REAL,                     -- NULL: that run goes on, or was killed
    outcome TEXT
);
