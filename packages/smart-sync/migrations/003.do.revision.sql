-- The trigger that counts the revision, as this version needs it: it compares what a load reads, by image, and is called only by updates that set some of it.
{{countsRevision}}
