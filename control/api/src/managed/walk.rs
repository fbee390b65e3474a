//! Walks over typed values: which paths a value has, what differs between two, merging one into another.

use alloc::{collections::BTreeMap, format, string::String, vec::Vec};

use serde_json::{Map, Value};

use super::set::Set;
use crate::schema::{FieldRef, ListType, Shape, TypeRef};

/// Structs that are owned as a whole. Source: `x-kubernetes-map-type: atomic` in the published OpenAPI.
const ATOMIC_TYPES: &[&str] = &[
    "io.k8s.api.core.v1.ConfigMapKeySelector",
    "io.k8s.api.core.v1.FileKeySelector",
    "io.k8s.api.core.v1.LocalObjectReference",
    "io.k8s.api.core.v1.NodeSelector",
    "io.k8s.api.core.v1.NodeSelectorTerm",
    "io.k8s.api.core.v1.ObjectFieldSelector",
    "io.k8s.api.core.v1.ObjectReference",
    "io.k8s.api.core.v1.ResourceFieldSelector",
    "io.k8s.api.core.v1.SecretKeySelector",
    "io.k8s.api.core.v1.SecretReference",
    "io.k8s.api.core.v1.TypedLocalObjectReference",
    "io.k8s.api.discovery.v1.EndpointPort",
    "io.k8s.api.rbac.v1.RoleRef",
    "io.k8s.api.rbac.v1.Subject",
    "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector",
    "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference",
];

/// Where a walk is: what the value looks like, and the field that it is of.
#[derive(Copy, Clone)]
pub(super) struct Place {
    shape: Shape,
    field: Option<FieldRef>,
}

/// How a value is owned and merged.
enum Kind {
    /// As a whole.
    Leaf,
    /// By its fields.
    Struct(TypeRef),
    /// By its keys.
    Map(Shape),
    /// By the values in it.
    ListSet,
    /// By its items' keys.
    ListMap(FieldRef, TypeRef),
}

/// A list item that has none of the keys that tell items apart.
#[derive(Debug)]
pub(super) struct NoKeys(pub(super) String);

impl Place {
    pub(super) fn root(ty: TypeRef) -> Self {
        Self { shape: Shape::Ref(ty), field: None }
    }

    fn kind(self) -> Kind {
        let atomic_map = self.field.is_some_and(FieldRef::is_atomic_map);
        match (self.shape, self.field) {
            (Shape::Ref(ty), _)
                if ty.scalar().is_none() && !atomic_map && !ATOMIC_TYPES.contains(&ty.name()) =>
            {
                Kind::Struct(ty)
            }
            (Shape::Map(item), _) if !atomic_map => Kind::Map(item.get()),
            (Shape::List(item), Some(field)) => match (field.list_type(), item.get()) {
                (ListType::Map, Shape::Ref(ty)) => Kind::ListMap(field, ty),
                (ListType::Set, _) => Kind::ListSet,
                _ => Kind::Leaf,
            },
            _ => Kind::Leaf,
        }
    }
}

/// One child of a value.
struct Child<'a> {
    element: String,
    place: Place,
    value: &'a Value,
    /// A struct's field, not a map's key or a list's item.
    named: bool,
}

/// The children of a value by kind; `None`: it is a leaf (also where the JSON is not of its type).
fn children<'a>(place: Place, value: &'a Value) -> Result<Option<Vec<Child<'a>>>, NoKeys> {
    let mut out = Vec::new();
    match (place.kind(), value) {
        (Kind::Struct(ty), Value::Object(map)) => {
            for (key, value) in map {
                if let Some(field) = ty.field(key) {
                    let place = Place { shape: field.shape(), field: Some(field) };
                    out.push(Child { element: format!("f:{key}"), place, value, named: true });
                }
            }
        }
        (Kind::Map(shape), Value::Object(map)) => {
            for (key, value) in map {
                let place = Place { shape, field: None };
                out.push(Child { element: format!("f:{key}"), place, value, named: false });
            }
        }
        (Kind::ListSet, Value::Array(list)) => {
            for value in list {
                let place = Place { shape: Shape::Any, field: None };
                out.push(Child { element: format!("v:{value}"), place, value, named: false });
            }
        }
        (Kind::ListMap(field, ty), Value::Array(list)) => {
            for value in list {
                let place = Place { shape: Shape::Ref(ty), field: None };
                let element = item_element(field, ty, value)?;
                out.push(Child { element, place, value, named: false });
            }
        }
        _ => return Ok(None),
    }
    Ok(Some(out))
}

fn item_element(field: FieldRef, ty: TypeRef, item: &Value) -> Result<String, NoKeys> {
    let mut keys = Map::new();
    for key in field.list_map_keys() {
        let default = || ty.field(key).and_then(FieldRef::default);
        if let Some(value) = item.get(key).cloned().or_else(default) {
            keys.insert(key.into(), value);
        }
    }
    if keys.is_empty() {
        let names: Vec<_> = field.list_map_keys().collect();
        return Err(NoKeys(format!(
            "associative list with keys has an element that omits all key fields {names:?} (and doesn't have default \
             values for any key fields)"
        )));
    }
    Ok(format!("k:{}", Value::Object(keys)))
}

fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Array(list)) => list.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => false,
    }
}

/// The paths that a value has: what an applier owns.
pub(super) fn to_set(place: Place, value: &Value) -> Result<Set, NoKeys> {
    let mut set = Set::default();
    collect(place, value, &mut Vec::new(), &mut set)?;
    Ok(set)
}

fn collect(
    place: Place,
    value: &Value,
    path: &mut Vec<String>,
    set: &mut Set,
) -> Result<(), NoKeys> {
    let Some(children) = children(place, value)? else {
        set.insert(path);
        return Ok(());
    };
    for child in children {
        path.push(child.element);
        collect(child.place, child.value, path, set)?;
        let empty_map = matches!(child.value, Value::Object(map) if map.is_empty());
        if !child.named || empty_map || child.value.is_null() {
            set.insert(path);
        }
        path.pop();
    }
    Ok(())
}

/// What differs between two values.
#[derive(Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

/// Compares two values of a type.
pub(super) fn compare(place: Place, old: &Value, new: &Value) -> Comparison {
    let mut out = Comparison::default();
    compare_at(place, Some(old), Some(new), &mut Vec::new(), &mut out);
    out
}

fn compare_at(
    place: Place,
    old: Option<&Value>,
    new: Option<&Value>,
    path: &mut Vec<String>,
    out: &mut Comparison,
) {
    let leaf = (is_empty(old) && is_empty(new))
        || [old, new].iter().flatten().any(|value| !value.is_null() && is_leaf(place, value));
    if leaf {
        match (old, new) {
            (None, Some(_)) => out.added.insert(path),
            (Some(_), None) => out.removed.insert(path),
            (old, new) if old != new => out.modified.insert(path),
            _ => {}
        }
        return;
    }
    let mut both: BTreeMap<String, (Place, Option<&Value>, Option<&Value>)> = BTreeMap::new();
    for child in listed(place, old) {
        both.insert(child.element, (child.place, Some(child.value), None));
    }
    for child in listed(place, new) {
        both.entry(child.element).or_insert((child.place, None, None)).2 = Some(child.value);
    }
    for (element, (place, old, new)) in both {
        path.push(element);
        compare_at(place, old, new, path, out);
        path.pop();
    }
    match (old, new) {
        (None, Some(_)) => out.added.insert(path),
        (Some(_), None) => out.removed.insert(path),
        _ => {}
    }
}

/// The children of what is no leaf; of a leaf or of nothing: none.
fn listed(place: Place, value: Option<&Value>) -> Vec<Child<'_>> {
    value.and_then(|value| children(place, value).ok()?).unwrap_or_default()
}

fn is_leaf(place: Place, value: &Value) -> bool {
    !matches!(children(place, value), Ok(Some(_)))
}

/// `config` over `live`: what apply makes of them before pruning.
pub(super) fn merge(place: Place, live: &Value, config: &Value) -> Result<Value, NoKeys> {
    let (Some(old), Some(new)) = (children(place, live)?, children(place, config)?) else {
        return Ok(config.clone());
    };
    match (live, config) {
        (Value::Object(live), Value::Object(config)) => {
            let mut out = live.clone();
            for child in new {
                let key = child.element.get(2..).unwrap_or_default();
                let merged = match live.get(key) {
                    Some(value) => merge(child.place, value, child.value)?,
                    None => child.value.clone(),
                };
                out.insert(key.into(), merged);
            }
            // Fields that the type does not have were refused before; keep nothing of them here.
            debug_assert!(config.len() >= out.len() - live.len(), "merge made up fields");
            Ok(Value::Object(out))
        }
        _ => Ok(Value::Array(merge_lists(&old, &new)?)),
    }
}

/// In the order of the new list; an item of the old one alone stays before the common item that it stood before.
fn merge_lists(old: &[Child<'_>], new: &[Child<'_>]) -> Result<Vec<Value>, NoKeys> {
    let in_new = |element: &str| new.iter().any(|child| child.element == element);
    let mut out = Vec::new();
    let mut rest = old.iter().peekable();
    for child in new {
        let Some(same) = old.iter().find(|other| other.element == child.element) else {
            out.push(child.value.clone());
            continue;
        };
        while let Some(next) = rest.next_if(|next| next.element != child.element) {
            if !in_new(&next.element) {
                out.push(next.value.clone());
            }
        }
        rest.next();
        out.push(merge(child.place, same.value, child.value)?);
    }
    out.extend(rest.filter(|child| !in_new(&child.element)).map(|child| child.value.clone()));
    Ok(out)
}

/// Takes out of `value` what `last` has and `owned` has not (with all below it).
pub(super) fn prune(place: Place, value: &mut Value, last: &Set, owned: &Set) {
    let Ok(Some(list)) = children(place, value) else { return };
    let elements: Vec<(String, Place)> =
        list.into_iter().map(|child| (child.element, child.place)).collect();
    let nothing = Set::default();
    let mut gone = Vec::new();
    for (index, (element, place)) in elements.iter().enumerate() {
        let Some((_, member, last_below)) = last.elements().find(|(has, _, _)| has == element)
        else {
            continue;
        };
        let owned_below = owned.below(element);
        if member && owned_below.is_none() {
            gone.push(index);
            continue;
        }
        let slot = match value {
            Value::Object(map) => map.get_mut(element.get(2..).unwrap_or_default()),
            Value::Array(items) => items.get_mut(index),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        };
        if let Some(slot) = slot {
            prune(*place, slot, last_below, owned_below.unwrap_or(&nothing));
        }
    }
    for index in gone.into_iter().rev() {
        match value {
            Value::Object(map) => {
                if let Some((element, _)) = elements.get(index) {
                    map.remove(element.get(2..).unwrap_or_default());
                }
            }
            Value::Array(items) => {
                items.remove(index);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}
