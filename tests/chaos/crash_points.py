"""Every crash point by name (common/crash_point.h), for the processes that pass it."""

AROUND = ("_before", "_after")


def around(*names):
    return [name + side for name in names for side in AROUND]


# What every process passes all the time, then what needs a lost disk or a zombie somewhere.
POINTS = {
    "edge": ["edge.send_after", *around("edge.commit", "edge.assign", "edge.trim"),
             *around("edge.included")],
    "region": ["region.out_after",
               *around("region.drain", "region.ack", "region.fold", "region.done",
                       "region.assign", "region.trim"),
               *around("region.fence")],
    "global": [*around("global.drain", "global.ack", "global.fold"), *around("global.fence")],
}
# Only when an aggregator is lost.
RARE = ("edge.assign", "edge.included", "region.fence", "global.fence")
# Of every database, new or old: passed when it is made.
DATABASE = around("db.grow", "db.checkpoint")
# Of an edge that has no room and nobody to bring its batches to.
TOMBSTONE = around("db.tombstone")
