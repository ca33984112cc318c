"""Where a server may listen is known before a model is loaded."""

import socket

import pytest

from nad_agents.cli.network_options import check_address
from nad_agents.exceptions import ConfigurationError


def test_a_port_of_which_a_connection_has_ended_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"--port {port}: address already in use; .* such as --port 0$"):
            check_address("127.0.0.1", port)
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = server.accept()
        accepted.close()
        client.close()
    check_address("127.0.0.1", port)
    check_address("localhost", 0)


@pytest.mark.parametrize("host", ["192.0.2.1", "x" * 300])
def test_an_address_of_another_machine_is_refused(host):
    with pytest.raises(ConfigurationError, match=r"--host .* --port 0: .*; give an address of this machine"):
        check_address(host, 0)
