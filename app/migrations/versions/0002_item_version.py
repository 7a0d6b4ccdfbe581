"""items.version: one more with each write, for those who wait for the next"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("items", sa.Column("version", sa.Integer, server_default=sa.text("1"), nullable=False))


def downgrade() -> None:
    op.drop_column("items", "version")
