-- The files of `search/` as the search that ended last wrote them, so that they go with a packed
-- database. Work is no longer divided by a measured pace.
CREATE TABLE found_files (
    name TEXT PRIMARY KEY NOT NULL,
    content TEXT NOT NULL
);
UPDATE searches SET kept = json_remove(kept, '$.pace') WHERE json_valid(kept);
