"""Print the table of all settings as Markdown."""

from pydantic_settings import BaseSettings

from services.contract import settings


def rows() -> list[tuple[str, str, str, str]]:
    """(service, variable, default, meaning) of every environment variable, in the order of the classes."""
    services: dict[str, type[BaseSettings]] = {
        "topics": settings.ReplicationSettings,
        "producer": settings.ProducerSettings,
        "db_consumer": settings.DbConsumerSettings,
        "inference_consumer": settings.InferenceConsumerSettings,
        "inference_server": settings.InferenceServerSettings,
    }
    table: dict[tuple[str, str, str], list[str]] = {}
    for service, model in services.items():
        for name, field in model.model_fields.items():
            variable = str(field.validation_alias or name).upper()
            default = "required" if field.is_required() else str(field.default)
            table.setdefault((variable, default, field.description or ""), []).append(service)
    return [(", ".join(users), *key) for key, users in table.items()]


if __name__ == "__main__":
    print("| variable | default | used by | meaning |\n|---|---|---|---|")
    for users, variable, default, meaning in rows():
        print(f"| `{variable}` | `{default}` | {users} | {meaning} |")
