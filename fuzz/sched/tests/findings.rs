//! What the fuzz targets found, as small as it gets.

use coracle_sched_model::sched_repack;

/// A node without the label of a second spread is told so: in the first, over hosts, it does not count (P4).
#[test]
fn spread_label() {
    sched_repack(b"\x05\x0055553521305\x00\x00\x0003521345045");
}
