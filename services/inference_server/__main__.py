"""``python -m services.inference_server``."""

from services.inference_server.main import main

if __name__ == "__main__":
    main()
