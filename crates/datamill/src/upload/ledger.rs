//! What a watch writes down: the durable record, on which a restart relies, and the registry for
//! people, without which the work goes on.

use super::record::Record;
use super::registry::Registry;

/// Both accounts of a watch.
pub(super) struct Ledger {
    pub(super) record: Record,
    pub(super) registry: Registry,
}
