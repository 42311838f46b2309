"""How Millrace is run: on this machine (`local`), and later in containers and Kubernetes.

Not: anything that services or processors import.
"""
