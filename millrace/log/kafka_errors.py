"""What Kafka's client raises, in our words."""

from aiokafka.errors import BrokerResponseError, KafkaError, kafka_errors

from millrace.errors import FailedPrecondition, MillraceError, StoreUnavailable


class FencedInstanceIdError(BrokerResponseError):
    """aiokafka has no name for it, and would tell of an unknown error."""

    errno = 82
    message = "FENCED_INSTANCE_ID"
    description = "another member of the group has this name"


kafka_errors.setdefault(FencedInstanceIdError.errno, FencedInstanceIdError)


def unavailable(error: KafkaError | TimeoutError | OSError) -> StoreUnavailable:
    """Nothing was decided; the message is the operator's, never a client's."""
    return StoreUnavailable(f"the log does not answer: {type(error).__name__} {error}".rstrip())


def membership_failed(error: KafkaError) -> MillraceError:
    """FailedPrecondition when a newer process has this worker's name: this one must end."""
    # The group's errors arrive wrapped, by their text alone.
    if FencedInstanceIdError.__name__ in str(error):
        return FailedPrecondition(
            "another process is the worker of this name", reason="WORKER_NAME_TAKEN"
        )
    return unavailable(error)
