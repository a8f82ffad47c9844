"""The first catalogue: media, tasks, labels, versions, features, runs."""

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None


def _id() -> sa.Column:
    kind = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    return sa.Column("id", kind, autoincrement=False, nullable=False)


def upgrade() -> None:
    op.create_table(
        "feature_sets",
        _id(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("columns", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_feature_sets"),
        sa.UniqueConstraint("name", name="uq_feature_sets_name"),
    )
    op.create_table(
        "media",
        _id(),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("split", sa.SmallInteger(), nullable=False),
        sa.Column("parent_id", sa.BigInteger(), nullable=True),
        sa.Column("content_hash", sa.Text(), nullable=True),
        sa.Column("transform", sa.Text(), nullable=True),
        sa.Column("attributes", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["parent_id"], ["media.id"], name="fk_media_parent_id"),
        sa.PrimaryKeyConstraint("id", name="pk_media"),
        sa.UniqueConstraint("uri", name="uq_media_uri"),
    )
    op.create_index("ix_media_parent_id", "media", ["parent_id"], unique=False)
    op.create_table(
        "runs",
        _id(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("results", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_table(
        "tasks",
        _id(),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tasks"),
        sa.UniqueConstraint("name", name="uq_tasks_name"),
    )
    op.create_table(
        "categories",
        _id(),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("origin_id", sa.BigInteger(), nullable=False),
        sa.Column("supercategory", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_categories_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_categories"),
        sa.UniqueConstraint("task_id", "name", name="uq_categories_task_id_name"),
        sa.UniqueConstraint("task_id", "origin_id", name="uq_categories_task_id_origin_id"),
        sa.UniqueConstraint("task_id", "position", name="uq_categories_task_id_position"),
    )
    op.create_table(
        "features",
        sa.Column("set_id", sa.BigInteger(), nullable=False),
        sa.Column("owner_id", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["set_id"], ["feature_sets.id"], name="fk_features_set_id"),
        sa.PrimaryKeyConstraint("set_id", "owner_id", name="pk_features"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "media_tags",
        sa.Column("tag", sa.Text(), nullable=False),
        sa.Column("media_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["media_id"], ["media.id"], name="fk_media_tags_media_id"),
        sa.PrimaryKeyConstraint("tag", "media_id", name="pk_media_tags"),
    )
    op.create_table(
        "origins",
        _id(),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_origins_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_origins"),
        sa.UniqueConstraint("task_id", "name", name="uq_origins_task_id_name"),
    )
    op.create_table(
        "task_media",
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("media_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["media_id"], ["media.id"], name="fk_task_media_media_id"),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_task_media_task_id"),
        sa.PrimaryKeyConstraint("task_id", "media_id", name="pk_task_media"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "versions",
        _id(),
        sa.Column("task_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("num_media", sa.BigInteger(), nullable=False),
        sa.Column("num_annotations", sa.BigInteger(), nullable=False),
        sa.Column("created", sa.Text(), nullable=False),
        sa.Column("categories", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["task_id"], ["tasks.id"], name="fk_versions_task_id"),
        sa.PrimaryKeyConstraint("id", name="pk_versions"),
        sa.UniqueConstraint("name", name="uq_versions_name"),
    )
    op.create_table(
        "annotations",
        _id(),
        sa.Column("media_id", sa.BigInteger(), nullable=False),
        sa.Column("category_id", sa.BigInteger(), nullable=False),
        sa.Column("origin_id", sa.BigInteger(), nullable=False),
        sa.Column("origin_key", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("x0", sa.Double(), nullable=False),
        sa.Column("y0", sa.Double(), nullable=False),
        sa.Column("x1", sa.Double(), nullable=False),
        sa.Column("y1", sa.Double(), nullable=False),
        sa.Column("area", sa.Double(), nullable=False),
        sa.Column("is_crowd", sa.SmallInteger(), nullable=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("source", sa.SmallInteger(), nullable=False),
        sa.Column("review_state", sa.SmallInteger(), nullable=False),
        sa.Column("geometry", sa.SmallInteger(), nullable=False),
        sa.Column("attributes", sa.LargeBinary(), nullable=True),
        sa.Column("segmentation", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["category_id"], ["categories.id"], name="fk_annotations_category_id"
        ),
        sa.ForeignKeyConstraint(["media_id"], ["media.id"], name="fk_annotations_media_id"),
        sa.ForeignKeyConstraint(["origin_id"], ["origins.id"], name="fk_annotations_origin_id"),
        sa.PrimaryKeyConstraint("id", name="pk_annotations"),
        sa.UniqueConstraint(
            "media_id",
            "origin_id",
            "origin_key",
            name="uq_annotations_media_id_origin_id_origin_key",
        ),
    )
    op.create_table(
        "version_columns",
        sa.Column("version_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.Column("dtype", sa.Text(), nullable=False),
        sa.Column("codec", sa.Text(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["version_id"], ["versions.id"], name="fk_version_columns_version_id"
        ),
        sa.PrimaryKeyConstraint("version_id", "name", "part", name="pk_version_columns"),
    )
