"""The checks of `orch self-test`: `inside` runs in containers of each profile, `outside` looks from here."""
