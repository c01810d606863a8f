"""The playing scene, cross-fades and renewals."""
