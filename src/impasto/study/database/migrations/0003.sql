-- A study file as it was asked for: it comes to one study for each of its models, in its order.
CREATE TABLE study_files (
    id INTEGER PRIMARY KEY,
    file TEXT NOT NULL UNIQUE,      -- as YAML
    name TEXT NOT NULL,
    began REAL NOT NULL,            -- when it was last run
    ended REAL                      -- NULL: that run goes on, or was killed
);
CREATE TABLE study_models (
    study_file INTEGER NOT NULL REFERENCES study_files ON DELETE CASCADE,
    number INTEGER NOT NULL,
    model_name TEXT NOT NULL,       -- as the file calls it
    study INTEGER REFERENCES studies ON DELETE SET NULL,    -- NULL before its first run
    PRIMARY KEY (study_file, number)
) WITHOUT ROWID;

-- Until now a file had one model; of several studies that it came to, the last run is meant.
INSERT INTO study_files (file, name, began, ended)
    SELECT file, name, coalesce(max(began), 0), max(ended)
    FROM studies LEFT JOIN runs ON runs.study = studies.id GROUP BY file;
INSERT INTO study_models (study_file, number, model_name, study)
    SELECT study_files.id, 0, last.model_name, last.id
    FROM study_files JOIN studies AS last ON last.id = (
        SELECT studies.id FROM studies LEFT JOIN runs ON runs.study = studies.id
        WHERE studies.file = study_files.file
        ORDER BY runs.began DESC, studies.id DESC LIMIT 1
    );
