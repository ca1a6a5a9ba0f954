"""Errors that a user can act on: each message is one sentence that says what is wrong and what to do."""


class GlasschatError(Exception):
    """Base of everything that is the user's to mend; the command line prints it and exits with code 2."""


class ModelError(GlasschatError):
    """A model that is missing, broken or of an unknown kind. Names the file and what was expected."""


class ConfigError(GlasschatError):
    """An option with a value it can't take."""


class RequestError(GlasschatError):
    """A request that can never be served: empty, too long, or with impossible sampling parameters."""


class EngineError(GlasschatError):
    """The engine process could not be started, or died."""
