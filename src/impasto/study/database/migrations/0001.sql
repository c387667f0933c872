-- Everything that a study's folder knows. Digests are sha256 in hex, times are seconds since 1970.

-- What runs: told by content, so that the same path or name with other content is another row.
CREATE TABLE models (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    layers INTEGER NOT NULL,
    parts TEXT NOT NULL             -- JSON: digests of weights, configuration, tokenizer, ...
);
CREATE TABLE engines (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    parts TEXT NOT NULL             -- JSON: digest of impasto's code, versions of libraries
);
CREATE TABLE tasks (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    title TEXT NOT NULL,
    parts TEXT NOT NULL             -- JSON: digests of questions and definition
);
CREATE TABLE items (
    task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    PRIMARY KEY (task, position)
) WITHOUT ROWID;
CREATE TABLE plans (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    line TEXT NOT NULL
);

-- Files whose weights were read before, by what their folder says of them without reading.
CREATE TABLE weights (stamp TEXT PRIMARY KEY, digest TEXT NOT NULL) WITHOUT ROWID;

-- How a task's items are divided for a model; it stays as it was first made.
CREATE TABLE shards (
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
    model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,          -- items start .. stop - 1
    UNIQUE (task, model, start)
);

-- Work that is done, or not, as a whole: one shard under some plans, in one call of the engine.
CREATE TABLE units (
    id INTEGER PRIMARY KEY,
    shard INTEGER NOT NULL REFERENCES shards ON DELETE CASCADE,
    engine INTEGER NOT NULL REFERENCES engines ON DELETE CASCADE,
    expected REAL                   -- seconds; NULL where nobody knows
);
CREATE TABLE timings (
    unit INTEGER NOT NULL REFERENCES units ON DELETE CASCADE,
    began REAL NOT NULL,
    seconds REAL NOT NULL,
    host TEXT NOT NULL,
    device TEXT NOT NULL,
    PRIMARY KEY (unit)
) WITHOUT ROWID;

-- One plan on one shard; `key` is over the content of all that its answers depend on.
CREATE TABLE cells (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    plan INTEGER NOT NULL REFERENCES plans,
    shard INTEGER NOT NULL REFERENCES shards ON DELETE CASCADE,
    unit INTEGER REFERENCES units ON DELETE SET NULL,
    finished REAL,                  -- when its records were saved; NULL before
    truncated INTEGER,              -- items that did not fit the model's context
    not_finite INTEGER,             -- items with a score that is no finite number
    exact INTEGER                   -- whether `records.metrics` are the metrics to the last bit
);
CREATE INDEX cells_of_units ON cells (unit);
CREATE TABLE records (
    cell INTEGER NOT NULL REFERENCES cells ON DELETE CASCADE,
    position INTEGER NOT NULL,      -- of the item in its task
    responses TEXT NOT NULL,        -- JSON
    metrics TEXT NOT NULL,          -- JSON
    PRIMARY KEY (cell, position)
) WITHOUT ROWID;

-- What was asked for: a study file with a model, the cells it needs, and the table it came to.
CREATE TABLE studies (
    id INTEGER PRIMARY KEY,
    digest TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    file TEXT NOT NULL,             -- the study as YAML
    model_name TEXT NOT NULL,       -- as the study calls it
    model INTEGER NOT NULL REFERENCES models,
    engine INTEGER NOT NULL REFERENCES engines,
    memory INTEGER,                 -- bytes that a batch may take
    finished REAL
);
CREATE TABLE study_tasks (
    study INTEGER NOT NULL REFERENCES studies ON DELETE CASCADE,
    number INTEGER NOT NULL,
    task INTEGER NOT NULL REFERENCES tasks,
    PRIMARY KEY (study, number)
) WITHOUT ROWID;
CREATE TABLE study_cells (
    study INTEGER NOT NULL REFERENCES studies ON DELETE CASCADE,
    number INTEGER NOT NULL,        -- in the order of the study's tasks, plans and shards
    cell INTEGER NOT NULL REFERENCES cells ON DELETE CASCADE,
    PRIMARY KEY (study, number)
) WITHOUT ROWID;
CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    study INTEGER NOT NULL REFERENCES studies ON DELETE CASCADE,
    command TEXT NOT NULL,
    versions TEXT NOT NULL,         -- JSON
    host TEXT NOT NULL,
    pid INTEGER NOT NULL,
    began REAL NOT NULL,
    ended REAL,
    outcome TEXT                    -- finished, stopped or failed
);
CREATE TABLE results (
    study INTEGER NOT NULL REFERENCES studies ON DELETE CASCADE,
    number INTEGER NOT NULL,
    task TEXT NOT NULL,             -- a task's or a group's name
    title TEXT NOT NULL,
    part_of TEXT NOT NULL,
    strategy TEXT NOT NULL,
    k INTEGER,
    seed INTEGER,
    parameters TEXT NOT NULL,       -- JSON
    plan TEXT NOT NULL,
    digest TEXT NOT NULL,           -- the plan's
    metric TEXT NOT NULL,
    value REAL,                     -- NULL: not a number
    stderr REAL,
    n INTEGER NOT NULL,
    chance REAL,
    baseline REAL,
    truncated INTEGER NOT NULL,
    not_finite INTEGER NOT NULL,
    data TEXT NOT NULL,             -- the task's digest
    PRIMARY KEY (study, number)
) WITHOUT ROWID;
