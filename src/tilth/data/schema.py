"""The tables of the catalogue, as SQLAlchemy Core sees them.

`migrations/` makes them; a test holds the two equal. Every number that a record enumerates
(`Source`, `Split`, ...) is stored as that number. Wide columns stand last in their table, so that
SQLite can scan boxes without touching the pages that hold polygons.
"""

import sqlalchemy as sa

__all__ = [
    "HEAD_REVISION",
    "annotations",
    "categories",
    "feature_sets",
    "features",
    "media",
    "media_tags",
    "metadata",
    "origins",
    "runs",
    "task_media",
    "tasks",
    "version_columns",
    "versions",
]

HEAD_REVISION = "r0001"
"""The newest migration; opening a catalogue compares this instead of loading Alembic."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> sa.Column[int]:
    # BIGINT would not be SQLite's row number, and so need an index of its own.
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, primary_key=True, autoincrement=False)


def _reference(name: str, target: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, sa.ForeignKey(target), nullable=nullable)


media = sa.Table(
    "media",
    metadata,
    _id(),
    sa.Column("uri", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("width", sa.Integer, nullable=False),
    sa.Column("height", sa.Integer, nullable=False),
    sa.Column("split", sa.SmallInteger, nullable=False),
    sa.Column("parent_id", sa.BigInteger, sa.ForeignKey("media.id"), index=True),
    sa.Column("content_hash", sa.Text),
    sa.Column("transform", sa.Text),  # JSON of records.Transform, of derived media
    sa.Column("attributes", sa.LargeBinary),  # JSON, as the origin wrote it
)

media_tags = sa.Table(
    "media_tags",
    metadata,
    sa.Column("tag", sa.Text, primary_key=True),
    sa.Column("media_id", sa.BigInteger, sa.ForeignKey("media.id"), primary_key=True),
)

tasks = sa.Table(
    "tasks",
    metadata,
    _id(),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("kind", sa.SmallInteger, nullable=False),
    sa.Column("description", sa.Text, nullable=False),
)

task_media = sa.Table(  # what a task covers: a picture in it without labels is a true negative
    "task_media",
    metadata,
    sa.Column("task_id", sa.BigInteger, sa.ForeignKey("tasks.id"), primary_key=True),
    sa.Column("media_id", sa.BigInteger, sa.ForeignKey("media.id"), primary_key=True),
    sqlite_with_rowid=False,
)

categories = sa.Table(
    "categories",
    metadata,
    _id(),
    _reference("task_id", "tasks.id"),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("origin_id", sa.BigInteger, nullable=False),
    sa.Column("supercategory", sa.Text, nullable=False),
    sa.UniqueConstraint("task_id", "name"),
    sa.UniqueConstraint("task_id", "position"),
    sa.UniqueConstraint("task_id", "origin_id"),
)

origins = sa.Table(  # whose labels: one row a named source of labels within a task
    "origins",
    metadata,
    _id(),
    _reference("task_id", "tasks.id"),
    sa.Column("name", sa.Text, nullable=False),
    sa.UniqueConstraint("task_id", "name"),
)

annotations = sa.Table(
    "annotations",
    metadata,
    _id(),
    _reference("media_id", "media.id"),
    _reference("category_id", "categories.id"),
    _reference("origin_id", "origins.id"),  # and so the task
    sa.Column("origin_key", sa.BigInteger, nullable=False),  # the annotation's id at its origin
    sa.Column("revision", sa.Integer, nullable=False),  # counts edits; features remember it
    sa.Column("x0", sa.Double, nullable=False),
    sa.Column("y0", sa.Double, nullable=False),
    sa.Column("x1", sa.Double, nullable=False),
    sa.Column("y1", sa.Double, nullable=False),
    sa.Column("area", sa.Double, nullable=False),
    sa.Column("is_crowd", sa.SmallInteger, nullable=False),
    sa.Column("score", sa.Float, nullable=True),
    sa.Column("source", sa.SmallInteger, nullable=False),
    sa.Column("review_state", sa.SmallInteger, nullable=False),
    sa.Column("geometry", sa.SmallInteger, nullable=False),
    sa.Column("attributes", sa.LargeBinary),
    sa.Column("segmentation", sa.LargeBinary),
    # Both the identity of a label and the way to all labels of one picture.
    sa.UniqueConstraint("media_id", "origin_id", "origin_key"),
)

versions = sa.Table(
    "versions",
    metadata,
    _id(),
    _reference("task_id", "tasks.id"),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("num_media", sa.BigInteger, nullable=False),
    sa.Column("num_annotations", sa.BigInteger, nullable=False),
    sa.Column("created", sa.Text, nullable=False),  # ISO 8601, UTC
    sa.Column("categories", sa.Text, nullable=False),  # JSON list, in order
)

version_columns = sa.Table(  # one column of a version, cut into parts below the size of a value
    "version_columns",
    metadata,
    sa.Column("version_id", sa.BigInteger, sa.ForeignKey("versions.id"), primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("part", sa.Integer, primary_key=True),
    sa.Column("dtype", sa.Text, nullable=False),
    sa.Column("codec", sa.Text, nullable=False),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

feature_sets = sa.Table(
    "feature_sets",
    metadata,
    _id(),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column("owner", sa.Text, nullable=False),  # media | annotation
    sa.Column("columns", sa.Text, nullable=False),  # JSON list of names
)

features = sa.Table(
    "features",
    metadata,
    sa.Column("set_id", sa.BigInteger, sa.ForeignKey("feature_sets.id"), primary_key=True),
    sa.Column("owner_id", sa.BigInteger, primary_key=True),
    sa.Column("revision", sa.Integer, nullable=False),  # of the annotation that was measured
    sa.Column("data", sa.LargeBinary, nullable=False),  # float64, little-endian, one a column
    sqlite_with_rowid=False,
)

runs = sa.Table(
    "runs",
    metadata,
    _id(),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),  # of the version that the run saw
    sa.Column("created", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),  # JSON
    sa.Column("results", sa.Text, nullable=False),  # JSON
)
