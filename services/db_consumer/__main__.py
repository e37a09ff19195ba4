import sys

from services.db_consumer.main import main

sys.exit(main())
