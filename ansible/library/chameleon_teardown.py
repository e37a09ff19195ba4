"""Ansible module around `latencylab.chameleon.teardown`: runs where Ansible runs, with its Python."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: chameleon_teardown
short_description: Remove everything whose name starts with a prefix
description:
  - Floating IPs, servers, networks with what is in them, security groups, key pairs, and last the lease.
  - Fails, with the list, if anything is left. In check mode it only lists.
options:
  cloud: {description: Entry of clouds.yaml., type: str, required: true}
  prefix: {description: What the names start with., type: str, required: true}
  state_directory: {description: Folder of the lease file., type: path, required: true}
  timeout_s: {description: How long refused removals are tried again., type: int, default: 300}
author: [latencylab]
"""

EXAMPLES = r"""
- name: Nothing is left
  chameleon_teardown:
    cloud: chameleon
    prefix: latencylab-ann
    state_directory: .state
"""

RETURN = r"""
found:
  description: What was there (check mode) or has been removed, one line each.
  returned: success
  type: list
  elements: str
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cloud": {"type": "str", "required": True},
            "prefix": {"type": "str", "required": True},
            "state_directory": {"type": "path", "required": True},
            "timeout_s": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    try:
        from openstack.exceptions import SDKException

        from latencylab.chameleon.lease import LeaseDesk, LeaseError, connect
        from latencylab.chameleon.teardown import Teardown, TeardownError
    except ImportError as error:
        module.fail_json(msg=f"{error}: run Ansible from the project's environment (pip install -e '.[cloud]')")
    wanted = module.params
    try:
        connection = connect(wanted["cloud"])
        desk = LeaseDesk(connection, Path(wanted["state_directory"]))
        work = Teardown(connection, desk, wanted["prefix"])
        found = work.find() if module.check_mode else work.run(wanted["timeout_s"])
    except (SDKException, LeaseError, TeardownError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(found), found=[str(thing) for thing in found])


if __name__ == "__main__":
    main()
