//! Every right of the role stands in one of the two tables of `docs/iam.md`, with a reason.

use std::collections::BTreeSet;

use crate::rights_of_the_role::{OTHERS, OWN, documented, granted};
use crate::template::expanded;

#[test]
fn the_tables_of_rights_are_the_role_s() {
    let tables = [OWN, OTHERS].map(documented);
    let listed: Vec<_> = tables.iter().flatten().map(|(right, _)| right.clone()).collect();
    let rights: BTreeSet<_> = listed.iter().cloned().collect();
    assert_eq!(rights.len(), listed.len(), "a right stands in two rows");
    assert_eq!(rights, granted(&expanded()));
    for (right, reason) in tables.iter().flatten() {
        assert!(reason.len() > 8, "{right:?} has no reason");
    }
}
