"""Alembic's entry point: runs the migrations on the connection that `tilth` hands over."""

from alembic import context

from tilth.data.schema import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
)
context.run_migrations()
