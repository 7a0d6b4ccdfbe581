"""The reference service of c50k.stack."""
