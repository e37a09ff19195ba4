"""Ansible module around `latencylab.chameleon.lease`: runs where Ansible runs, with its Python."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: chameleon_lease
short_description: An active lease with a flavor reservation
description:
  - Uses the lease of that name if there is one, else makes it. Its id is on disk before anything waits for it.
  - A lease that doesn't become active, or whose wait is interrupted, is ended again.
options:
  cloud: {description: Entry of clouds.yaml., type: str, required: true}
  name: {description: Name of the lease., type: str, required: true}
  flavor: {description: Name of the flavor to reserve., type: str, required: true}
  machines: {description: How many servers., type: int, default: 4}
  minutes: {description: Length of a new lease., type: int, default: 60}
  state_directory: {description: Folder of the lease file., type: path, required: true}
  timeout_s: {description: How long the lease may take to become active., type: int, default: 300}
author: [latencylab]
"""

EXAMPLES = r"""
- name: Lease four machines for an hour
  chameleon_lease:
    cloud: chameleon
    name: latencylab-lease
    flavor: m1.xlarge
    state_directory: .state
"""

RETURN = r"""
lease:
  description: id, name, status, start, end (UTC), machines, and reserved_flavors: the ids of the flavors to use.
  returned: success
  type: dict
"""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "cloud": {"type": "str", "required": True},
            "name": {"type": "str", "required": True},
            "flavor": {"type": "str", "required": True},
            "machines": {"type": "int", "default": 4},
            "minutes": {"type": "int", "default": 60},
            "state_directory": {"type": "path", "required": True},
            "timeout_s": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    try:
        from openstack.exceptions import SDKException

        from latencylab.chameleon.lease import LeaseDesk, LeaseError, LeaseRequest, connect
    except ImportError as error:
        module.fail_json(msg=f"{error}: run Ansible from the project's environment (pip install -e '.[cloud]')")
    wanted = module.params
    try:
        desk = LeaseDesk(connect(wanted["cloud"]), Path(wanted["state_directory"]))
        if module.check_mode:
            found = [lease.as_dict() for lease in desk.list() if lease.name == wanted["name"]]
            module.exit_json(changed=not found, lease=found[0] if found else {})
        request = LeaseRequest(wanted["name"], wanted["flavor"], wanted["machines"], wanted["minutes"])
        lease, made = desk.ensure(request, wanted["timeout_s"])
    except (SDKException, LeaseError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=made, lease=lease.as_dict())


if __name__ == "__main__":
    main()
