"""items_shard: the items of one shard, for who moves it"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        # what is left of one that was cut off is never used
        op.execute("DROP INDEX CONCURRENTLY IF EXISTS items_shard")
        op.execute("CREATE INDEX CONCURRENTLY items_shard ON items ((id & 255), id)")


def downgrade() -> None:
    op.drop_index("items_shard", "items")
