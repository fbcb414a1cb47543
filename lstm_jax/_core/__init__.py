"""The engine and what it is built on; private: nothing here is promised to stay."""
