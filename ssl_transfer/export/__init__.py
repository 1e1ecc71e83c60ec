"""An encoder, or a whole downstream run, as files that projects without this package open: one module a target."""

from ssl_transfer.export.read import read_export as read_export
from ssl_transfer.export.write import Exported as Exported
from ssl_transfer.export.write import write_export as write_export
