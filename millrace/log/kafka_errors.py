"""What Kafka's client raises, in our words."""

from aiokafka.errors import KafkaError

from millrace.errors import StoreUnavailable


def unavailable(error: KafkaError | TimeoutError | OSError) -> StoreUnavailable:
    """Nothing was decided; the message is the operator's, never a client's."""
    return StoreUnavailable(f"the log does not answer: {type(error).__name__} {error}".rstrip())
