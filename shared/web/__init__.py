"""The HTTP interface: a blocking, thread-safe WSGI app on Werkzeug."""
