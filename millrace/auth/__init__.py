"""Who somebody is: keys, sealed boxes, passwords, access and refresh tokens, names.

Pure but for the files of `keys` and the threads of `passwords`. Not: what somebody may do
(`millrace/policy.py`), nor where secrets are kept (`millrace/views/vault.py`).
"""
