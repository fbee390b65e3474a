//! The types of the API as static tables, made at build time from `schema/types.json` (see `build.rs`).
//!
//! Everything is an index into rodata, so a [`TypeRef`] or [`FieldRef`] is two bytes and copies. Types that no served
//! kind reaches are not in the tables.

use alloc::{format, string::String};

use serde_json::Value;

include!(concat!(env!("OUT_DIR"), "/schema.rs"));

#[derive(Debug)]
struct TypeRow {
    name: u16,
    first: u16,
    scalar: u8,
}

#[derive(Debug)]
struct FieldRow {
    name: u16,
    shape: u16,
    extra: u16,
    flags: u16,
    pb: u8,
    inline: u8,
}

#[derive(Debug)]
struct ExtraRow {
    default: u16,
    merge_key: u16,
    values: (u16, u16),
    keys: (u16, u16),
}

const REQUIRED: u16 = 1;
const LIST_MAP: u16 = 2;
const LIST_SET: u16 = 4;
const MAP_ATOMIC: u16 = 8;
const PATCH_MERGE: u16 = 16;
const PATCH_RETAIN_KEYS: u16 = 32;
const PATCH_REPLACE: u16 = 64;
const ZERO_IS_ABSENT: u16 = 128;

/// A type (`io.k8s.api.core.v1.Pod`).
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeRef(u16);

/// A field of a type.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FieldRef(u16);

/// What a value looks like.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Text.
    String,
    /// Bytes, base64 in JSON.
    Bytes,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Floating point.
    Double,
    /// true or false.
    Bool,
    /// Any JSON.
    Any,
    /// Any JSON object.
    Object,
    /// Another type.
    Ref(TypeRef),
    /// A list of these.
    List(ShapeRef),
    /// An object with any keys and these values.
    Map(ShapeRef),
}

/// Shape of a list's items or a map's values.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ShapeRef(u16);

/// Types that are one JSON value with a format of its own.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Scalar {
    Quantity,
    IntOrString,
    Time,
    MicroTime,
    RawExtension,
    FieldsV1,
}

/// How server-side apply merges a list.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ListType {
    /// As a whole.
    Atomic,
    /// Each value by itself.
    Set,
    /// Items by their keys ([`FieldRef::list_map_keys`]).
    Map,
}

/// The type of an object by its group (empty: core), version and kind, legacy versions included. `DeleteOptions` and
/// the like are found in any group and version.
pub fn type_by_gvk(group: &str, version: &str, kind: &str) -> Option<TypeRef> {
    let found = GVKS.binary_search_by(|(g, v, k, _)| (*g, *v, *k).cmp(&(group, version, kind)));
    if let Some((_, _, _, ty)) = found.ok().and_then(|at| GVKS.get(at)) {
        return Some(TypeRef(*ty));
    }
    match kind {
        "DeleteOptions" | "Status" => {
            type_by_name(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{kind}"))
        }
        _ => None,
    }
}

/// The type by its OpenAPI name (`io.k8s.api.core.v1.Pod`).
pub fn type_by_name(name: &str) -> Option<TypeRef> {
    let types = TYPES.get(..TYPES.len() - 1).unwrap_or_default();
    let at = types.binary_search_by(|row| text(row.name).cmp(name)).ok()?;
    Some(TypeRef(u16::try_from(at).ok()?))
}

/// All types, by name.
pub fn all_types() -> impl Iterator<Item = TypeRef> {
    (0..).take(TYPES.len() - 1).map(TypeRef)
}

fn text(index: u16) -> &'static str {
    let at = usize::from(index);
    let bound = |at: usize| STARTS.get(at).map(|start| usize::from(*start));
    match (bound(at), bound(at + 1)) {
        (Some(start), Some(end)) => TEXT.get(start..end).unwrap_or_default(),
        _ => "",
    }
}

fn texts((start, count): (u16, u16)) -> impl Iterator<Item = &'static str> {
    let start = usize::from(start);
    STRINGS.get(start..start + usize::from(count)).unwrap_or_default().iter().map(|at| text(*at))
}

fn shape(index: u16) -> Shape {
    let (tag, argument) = SHAPES.get(usize::from(index)).copied().unwrap_or((6, 0));
    match tag {
        0 => Shape::String,
        1 => Shape::Bytes,
        2 => Shape::Int32,
        3 => Shape::Int64,
        4 => Shape::Double,
        5 => Shape::Bool,
        7 => Shape::Object,
        8 => Shape::Ref(TypeRef(argument)),
        9 => Shape::List(ShapeRef(argument)),
        10 => Shape::Map(ShapeRef(argument)),
        _ => Shape::Any,
    }
}

#[expect(clippy::indexing_slicing, reason = "a TypeRef is only made from the table's own indexes")]
impl TypeRef {
    fn row(self) -> &'static TypeRow {
        &TYPES[usize::from(self.0)]
    }

    /// `io.k8s.api.core.v1.Pod`.
    pub fn name(self) -> &'static str {
        text(self.row().name)
    }

    /// `Pod`.
    pub fn short_name(self) -> &'static str {
        self.name().rsplit('.').next().unwrap_or_default()
    }

    /// As Go names it in messages: `v1.Pod`.
    pub fn go_name(self) -> String {
        let mut parts = self.name().rsplit('.');
        let short = parts.next().unwrap_or_default();
        format!("{}.{short}", parts.next().unwrap_or_default())
    }

    /// Group, version and kind, where it is an object of its own.
    pub fn gvk(self) -> Option<(&'static str, &'static str, &'static str)> {
        let found = GVKS.iter().find(|(_, _, _, ty)| *ty == self.0);
        found.map(|(group, version, kind, _)| (*group, *version, *kind))
    }

    /// What it is, where it is no struct.
    pub fn scalar(self) -> Option<Scalar> {
        match self.row().scalar {
            1 => Some(Scalar::Quantity),
            2 => Some(Scalar::IntOrString),
            3 => Some(Scalar::Time),
            4 => Some(Scalar::MicroTime),
            5 => Some(Scalar::RawExtension),
            6 => Some(Scalar::FieldsV1),
            _ => None,
        }
    }

    /// Its fields, by name.
    pub fn fields(self) -> impl Iterator<Item = FieldRef> {
        let end = TYPES[usize::from(self.0) + 1].first;
        (self.row().first..end).map(FieldRef)
    }

    /// The field of that name.
    pub fn field(self, name: &str) -> Option<FieldRef> {
        let (mut low, mut high) = (self.row().first, TYPES[usize::from(self.0) + 1].first);
        while low < high {
            let middle = low + (high - low) / 2;
            match FieldRef(middle).name().cmp(name) {
                core::cmp::Ordering::Equal => return Some(FieldRef(middle)),
                core::cmp::Ordering::Less => low = middle + 1,
                core::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

impl ShapeRef {
    /// The shape.
    pub fn get(self) -> Shape {
        shape(self.0)
    }
}

impl Shape {
    /// The type behind it, where it is one.
    pub fn type_ref(self) -> Option<TypeRef> {
        if let Self::Ref(ty) = self { Some(ty) } else { None }
    }
}

#[expect(clippy::indexing_slicing, reason = "a FieldRef is only made from the table's own indexes")]
impl FieldRef {
    fn row(self) -> &'static FieldRow {
        &FIELDS[usize::from(self.0)]
    }

    fn has(self, flag: u16) -> bool {
        self.row().flags & flag != 0
    }

    fn extra(self) -> Option<&'static ExtraRow> {
        EXTRAS.get(usize::from(self.row().extra).checked_sub(1)?)
    }

    /// `containers`.
    pub fn name(self) -> &'static str {
        text(self.row().name)
    }

    /// What its value looks like.
    pub fn shape(self) -> Shape {
        shape(self.row().shape)
    }

    /// OpenAPI calls it required.
    pub fn required(self) -> bool {
        self.has(REQUIRED)
    }

    /// Zero, empty and absent mean the same (Go holds it without a pointer, `omitempty`).
    pub fn zero_is_absent(self) -> bool {
        self.has(ZERO_IS_ABSENT)
    }

    /// How server-side apply merges it, where it is a list.
    pub fn list_type(self) -> ListType {
        if self.has(LIST_MAP) {
            ListType::Map
        } else if self.has(LIST_SET) {
            ListType::Set
        } else {
            ListType::Atomic
        }
    }

    /// Server-side apply takes the map or struct as a whole.
    pub fn is_atomic_map(self) -> bool {
        self.has(MAP_ATOMIC)
    }

    /// Fields that tell the items of a `ListType::Map` apart.
    pub fn list_map_keys(self) -> impl Iterator<Item = &'static str> {
        self.extra().into_iter().flat_map(|extra| texts(extra.keys))
    }

    /// Strategic merge patch merges the list (or map) instead of replacing it.
    pub fn patch_merge(self) -> bool {
        self.has(PATCH_MERGE)
    }

    /// Strategic merge patch may name the keys that stay (`$retainKeys`).
    pub fn patch_retain_keys(self) -> bool {
        self.has(PATCH_RETAIN_KEYS)
    }

    /// Strategic merge patch replaces the struct.
    pub fn patch_replace(self) -> bool {
        self.has(PATCH_REPLACE)
    }

    /// The field by which strategic merge patch tells items apart; empty: the items are values.
    pub fn patch_merge_key(self) -> &'static str {
        self.extra().map(|extra| text(extra.merge_key)).unwrap_or_default()
    }

    /// The values that the schema allows; none: any.
    pub fn values(self) -> impl Iterator<Item = &'static str> {
        self.extra().into_iter().flat_map(|extra| texts(extra.values))
    }

    /// The default that the schema states, for documents; the kinds apply their own.
    pub fn default(self) -> Option<Value> {
        serde_json::from_str(text(self.extra()?.default)).ok()
    }

    /// Protobuf number; 0: not in protobuf.
    pub fn wire_number(self) -> u8 {
        self.row().pb
    }

    /// Number of the embedded message that holds it in protobuf; 0: none does.
    pub fn wire_inline(self) -> u8 {
        self.row().inline
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    #[test]
    fn types_are_found() {
        let pod = type_by_gvk("", "v1", "Pod").unwrap();
        assert_eq!(pod.name(), "io.k8s.api.core.v1.Pod");
        assert_eq!(pod.gvk(), Some(("", "v1", "Pod")));
        let Shape::Ref(spec) = pod.field("spec").unwrap().shape() else { panic!("no struct") };
        assert_eq!(spec.go_name(), "v1.PodSpec");
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.list_type(), ListType::Map);
        assert_eq!(containers.list_map_keys().collect::<Vec<_>>(), ["name"]);
        assert_eq!(containers.patch_merge_key(), "name");
        assert!(type_by_gvk("", "v2", "Pod").is_none());
        assert!(type_by_gvk("policy", "v1", "DeleteOptions").is_some());
        assert!(type_by_gvk("", "v1", "PodList").is_some());
    }

    #[test]
    fn every_type_and_field_is_found_by_its_name() {
        for ty in all_types() {
            assert_eq!(type_by_name(ty.name()), Some(ty));
            for field in ty.fields() {
                assert_eq!(ty.field(field.name()), Some(field), "{} {}", ty.name(), field.name());
            }
        }
    }

    #[test]
    fn legacy_types_are_the_hub_s_with_their_differences() {
        let spec = |group, version| {
            let ty = type_by_gvk(group, version, "Deployment").unwrap();
            ty.field("spec").unwrap().shape().type_ref().unwrap()
        };
        assert!(spec("apps", "v1beta1").field("rollbackTo").is_some());
        assert!(spec("extensions", "v1beta1").field("rollbackTo").is_some());
        assert!(spec("apps", "v1beta2").field("rollbackTo").is_none());
        assert!(spec("apps", "v1").field("rollbackTo").is_none());
        assert!(!spec("apps", "v1beta1").field("selector").unwrap().required());
        assert!(spec("apps", "v1").field("selector").unwrap().required());
        assert!(type_by_gvk("apps", "v1beta1", "ReplicaSet").is_none());
        assert!(type_by_gvk("apps", "v1beta1", "DeploymentRollback").is_some());
    }

    #[test]
    fn the_tables_are_small() {
        let bytes = TEXT.len()
            + size_of_val(&STARTS)
            + size_of_val(&TYPES)
            + size_of_val(&FIELDS)
            + size_of_val(&SHAPES)
            + size_of_val(&EXTRAS)
            + size_of_val(&GVKS);
        assert!(bytes < 64 * 1024, "{bytes} bytes");
    }
}
