"""items: the table and a thousand rows to read"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "items",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("price_cents", sa.Integer, nullable=False),
        sa.Column("created_at", sa.TIMESTAMP(timezone=True), server_default=sa.func.now(), nullable=False),
    )
    op.execute(
        "INSERT INTO items (name, description, price_cents) "
        "SELECT 'Item ' || n, 'Number ' || n || ' of the first thousand', 100 + n * 37 % 9900 "
        "FROM generate_series(1, 1000) AS n"
    )


def downgrade() -> None:
    op.drop_table("items")
