-- Tasks that are asked until changes are known precisely enough.

-- Their shards are made round by round. Where fewer items may be asked than before, one may begin
-- where another does and end sooner.
CREATE TABLE shards_anew (
    id INTEGER PRIMARY KEY,
    task INTEGER NOT NULL REFERENCES tasks ON DELETE CASCADE,
    model INTEGER NOT NULL REFERENCES models ON DELETE CASCADE,
    start INTEGER NOT NULL,
    stop INTEGER NOT NULL,          -- items start .. stop - 1
    UNIQUE (task, model, start, stop)
);
INSERT INTO shards_anew SELECT id, task, model, start, stop FROM shards;
DROP TABLE shards;
ALTER TABLE shards_anew RENAME TO shards;

-- How precisely changes are known by now, of each task, or group as a whole, that is asked so.
CREATE TABLE precisions (
    study INTEGER NOT NULL REFERENCES studies ON DELETE CASCADE,
    number INTEGER NOT NULL,
    name TEXT NOT NULL,             -- of the task or group
    within REAL NOT NULL,           -- what half of every interval is to be at the most, a share
    asked INTEGER NOT NULL,         -- items that every plan was asked, or is being asked
    items INTEGER NOT NULL,         -- that there are
    most INTEGER NOT NULL,          -- that may be asked
    widest REAL,                    -- half of the widest interval; NULL: none is known
    unit TEXT NOT NULL,             -- of what that is a share
    plan TEXT NOT NULL,             -- whose it is
    later INTEGER NOT NULL,         -- answers that may be asked for behind these, at the most
    is_done INTEGER NOT NULL,       -- whether no more will be asked
    PRIMARY KEY (study, number)
) WITHOUT ROWID;
