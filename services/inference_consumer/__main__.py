import sys

from services.inference_consumer.main import main

sys.exit(main())
