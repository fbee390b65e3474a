//! Quantities inside objects: brought to their canonical form, and checked.

use alloc::string::ToString;

use coracle_api::quantity::{Quantity, from_json};
use serde_json::Value;

use super::field::{FieldErrors, Path};

/// Writes the quantity under `key` in its canonical form. One that cannot be read stays for validation to refuse.
pub(crate) fn canonical(holder: &mut Value, key: &str) {
    if let Some(slot) = holder.get_mut(key)
        && let Ok(quantity) = from_json(slot)
    {
        *slot = quantity.to_string().into();
    }
}

/// The same for every quantity of the map under `key`, rounded up to thousandths (as ResourceLists are).
pub(crate) fn canonical_map(holder: &mut Value, key: &str) {
    let Some(map) = holder.get_mut(key).and_then(Value::as_object_mut) else { return };
    for slot in map.values_mut() {
        if let Ok(quantity) = from_json(slot) {
            *slot = quantity.round_up_to_milli().to_string().into();
        }
    }
}

/// Whether this quantity is zero; one that cannot be read is not.
pub(crate) fn is_zero(value: &Value) -> bool {
    from_json(value).is_ok_and(|quantity| quantity.is_zero())
}

/// Whether two quantities are the same amount.
pub(crate) fn equal(a: &Value, b: &Value) -> bool {
    matches!((from_json(a), from_json(b)), (Ok(a), Ok(b)) if a == b)
}

/// The quantity, where it can be read and is not negative; what is wrong is noted.
pub(crate) fn checked(errors: &mut FieldErrors, path: &Path, value: &Value) -> Option<Quantity> {
    match from_json(value) {
        Ok(quantity) if quantity.is_negative() => {
            errors.invalid(path, &quantity.to_string(), "must be greater than or equal to 0");
            None
        }
        Ok(quantity) => Some(quantity),
        Err(why) => {
            errors.invalid(path, value, why.to_string());
            None
        }
    }
}
