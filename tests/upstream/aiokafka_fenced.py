"""aiokafka: has no name for FENCED_INSTANCE_ID (82), which static members meet."""

from aiokafka.errors import UnknownError, for_code

from tests.upstream.servers import ended

found = for_code(82)
print(f"error 82 is {found.__name__}")
ended(found is UnknownError, "FENCED_INSTANCE_ID is an unknown error")
