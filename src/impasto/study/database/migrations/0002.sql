-- What plans cost: the time from a sequence to its next token, and what they hold in memory.

-- All of a model's rows come from one session, so that its times can be compared with each other.
CREATE TABLE costs (
    model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    engine INTEGER NOT NULL REFERENCES engines ON DELETE CASCADE,
    plan INTEGER NOT NULL REFERENCES plans,
    tokens INTEGER NOT NULL,        -- how long the sequences are
    sequences INTEGER NOT NULL,     -- how many were timed
    seconds REAL NOT NULL,          -- mean
    seconds_error REAL,             -- half of the 95 % interval; NULL: only one was timed
    improvement REAL NOT NULL,      -- share by which the mean is shorter than the baseline's
    improvement_error REAL,
    expected REAL NOT NULL,         -- the improvement that operations and bytes let expect
    flops REAL NOT NULL,
    bytes_moved REAL NOT NULL,
    kept_bytes INTEGER NOT NULL,    -- of keys and values, by each token
    parameters INTEGER NOT NULL,    -- in memory once only the plan's layers are loaded
    peak_bytes INTEGER,             -- above the weights; NULL where that cannot be read
    machine TEXT NOT NULL,
    measured REAL NOT NULL,
    PRIMARY KEY (model, engine, plan, tokens)
) WITHOUT ROWID;
