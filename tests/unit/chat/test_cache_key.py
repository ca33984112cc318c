"""Names of objects in the keys of caches."""

from nad_agents import VerificationConfig
from nad_agents.chat.cache_key import object_name


def test_no_two_objects_have_one_name():
    # an address would be given to the next object, or be another's in the next process that shares the cache
    names = {object_name(object.__new__(type("Same", (), {}))) for _ in range(20)}
    assert len(names) == 20
    thing = type("Same", (), {})()
    assert object_name(thing) == object_name(thing)
    assert " at 0x" not in object_name(thing)
    assert object_name(VerificationConfig()) == object_name(VerificationConfig())
