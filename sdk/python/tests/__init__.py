"""Unit tests of the Python client. Against a daemon: MEMCLOUD_TEST_SOCKET=PATH (test/sdk/python.test.ts)."""
