//! Makes the static tables of `schema`: strings interned, everything by 16-bit index, only what Coracle serves.
//!
//! A wrong schema file stops the build: hence the panics, each with what is wrong.
#![expect(
    clippy::indexing_slicing,
    reason = "a schema file without what is asked of it must stop the build"
)]
#![expect(clippy::unwrap_used, reason = "a build that cannot write its output must stop")]

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    fmt::Write as _,
    fs,
    path::PathBuf,
};

use serde_json::{Map, Value};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// Objects that bodies and answers are made of beside the served kinds, in any group and version.
const META_ROOTS: &[&str] =
    &["DeleteOptions", "Status", "LabelSelector", "ListMeta", "ObjectMeta", "ManagedFieldsEntry"];

/// Scalar fields that Go holds without a pointer: zero and absent are one (`omitempty`).
const ZERO_IS_ABSENT: &[&str] = &[
    "*.authenticated",
    "*.availableReplicas",
    "*.chapAuthDiscovery",
    "*.chapAuthSession",
    "*.code",
    "*.count",
    "*.denied",
    "*.deprecatedCount",
    "*.failureThreshold",
    "*.fullyLabeledReplicas",
    "*.generation",
    "*.globalDefault",
    "*.healthCheckNodePort",
    "*.hostIPC",
    "*.hostNetwork",
    "*.hostPID",
    "*.hostPort",
    "*.initialDelaySeconds",
    "*.minReadySeconds",
    "*.nodePort",
    "*.observedGeneration",
    "*.partition",
    "*.paused",
    "*.periodSeconds",
    "*.publishNotReadyAddresses",
    "*.readOnly",
    "*.readyReplicas",
    "*.retryAfterSeconds",
    "*.signal",
    "*.sizeBytes",
    "*.sslEnabled",
    "*.stdin",
    "*.stdinOnce",
    "*.successThreshold",
    "*.tty",
    "*.unavailableReplicas",
    "*.unschedulable",
    "*.updatedReplicas",
    "DeploymentStatus.replicas",
    "Probe.timeoutSeconds",
];

/// Text fields that Go holds by pointer: empty is not absent.
const EMPTY_IS_MEANT: &[&str] =
    &["HostPathVolumeSource.type", "LeaseSpec.holderIdentity", "*.storageClassName"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for file in ["types", "resources", "served"] {
        println!("cargo::rerun-if-changed=schema/{file}.json");
    }
    let read = |file: &str| -> Value {
        let path = format!("schema/{file}.json");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let schema = read("types");
    let types = with_legacy(&schema);
    let served = served(&read("served"), &read("resources"));
    let wanted = reachable(&types, &roots(&types, &served));
    let tables = Tables::new(&types, &schema["wireTypes"], &wanted);
    let out = PathBuf::from(env::var("OUT_DIR").unwrap());
    let (schema, served) = (tables.source(), served_source(&served));
    let print = fingerprint(schema.as_bytes()) ^ fingerprint(served.as_bytes()).rotate_left(1);
    let print = format!("/// Changes with the tables.\npub const FINGERPRINT: u64 = {print:#x};\n");
    fs::write(out.join("schema.rs"), schema + &print).unwrap();
    fs::write(out.join("served.rs"), served).unwrap();
}

/// FNV-1a.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// `Pod` of `io.k8s.api.core.v1.Pod`.
fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap()
}

/// All types, the legacy ones given their JSON shapes: the hub's field where the hub has it, else what protobuf says.
fn with_legacy(schema: &Value) -> BTreeMap<String, Value> {
    let mut types: BTreeMap<String, Value> =
        schema["types"].as_object().unwrap().clone().into_iter().collect();
    let legacy = schema["legacyTypes"].as_object().unwrap();
    for (name, ty) in legacy {
        let kind = short(name);
        let of_ours = ["Deployment", "ReplicaSet", "Scale", "Rollback", "RollingUpdateDeployment"];
        if !of_ours.iter().any(|start| kind.starts_with(start)) {
            continue;
        }
        let package = name.strip_prefix("io.k8s.api.").unwrap().rsplit_once('.').unwrap().0;
        let (group, version) = package.rsplit_once('.').unwrap();
        let hub = &types.get(&format!("io.k8s.api.apps.v1.{kind}")).cloned().unwrap_or_default();
        let mut fields = Map::new();
        for (field, wire) in ty["fields"].as_object().unwrap() {
            let from_wire = shape_of_wire(wire["pbType"].as_str().unwrap());
            let mut shape = hub["fields"].get(field).cloned().unwrap_or(from_wire);
            shape["pb"] = wire["pb"].clone();
            make_legacy(&mut shape, legacy, package);
            if field == "selector" && !kind.starts_with("Scale") && version == "v1beta1" {
                shape.as_object_mut().unwrap().remove("required");
            }
            fields.insert(field.clone(), shape);
        }
        let mut made = Map::new();
        let whole = ["Deployment", "DeploymentList", "ReplicaSet", "ReplicaSetList", "Scale"];
        if whole.contains(&kind) || kind == "DeploymentRollback" {
            for field in ["apiVersion", "kind"] {
                fields.insert(field.into(), serde_json::json!({"type": "string"}));
            }
            made.insert("gvk".into(), serde_json::json!([[group, version, kind]]));
        }
        made.insert("fields".into(), fields.into());
        types.insert(name.clone(), made.into());
    }
    types
}

fn shape_of_wire(wire: &str) -> Value {
    if let Some(item) = wire.strip_suffix("[]") {
        return serde_json::json!({"list": shape_of_wire(item), "listType": "atomic"});
    }
    match wire {
        "string" => serde_json::json!({"type": "string"}),
        "bool" => serde_json::json!({"type": "boolean"}),
        "int32" | "int64" => serde_json::json!({"type": "integer", "format": wire}),
        "map<string,string>" => serde_json::json!({"map": {"type": "string"}}),
        name => {
            assert!(name.contains('.'), "legacy field of unknown wire type {name}");
            serde_json::json!({"ref": name})
        }
    }
}

/// Turns references to hub types into ones to the legacy version's own, where it has its own.
fn make_legacy(shape: &mut Value, legacy: &Map<String, Value>, package: &str) {
    for key in ["list", "map"] {
        if let Some(item) = shape.get_mut(key) {
            make_legacy(item, legacy, package);
        }
    }
    if let Some(name) = shape.get("ref").and_then(Value::as_str) {
        let own = format!("io.k8s.api.{package}.{}", short(name));
        if name.starts_with("io.k8s.api.apps.") && legacy.contains_key(&own) {
            shape["ref"] = own.into();
        }
    }
}

/// The rows of `served.json`, each with what `resources.json` says of it.
fn served(list: &Value, resources: &Value) -> Vec<Value> {
    let mut out = Vec::new();
    for row in list.as_array().unwrap() {
        let mut merged = row.as_object().unwrap().clone();
        let like = row.get("like").unwrap_or(row);
        let found =
            resources.as_array().unwrap().iter().find(|known| {
                ["group", "version", "name"].iter().all(|key| known[key] == like[key])
            });
        let found = found.unwrap_or_else(|| panic!("served.json: no such resource: {like}"));
        for (key, value) in found.as_object().unwrap() {
            merged.entry(key.clone()).or_insert_with(|| value.clone());
        }
        out.push(Value::Object(merged));
    }
    out
}

fn roots(types: &BTreeMap<String, Value>, served: &[Value]) -> Vec<String> {
    let mut out: Vec<String> = META_ROOTS.iter().map(|name| format!("{META}.{name}")).collect();
    for row in served {
        let kind = row.get("responseKind").unwrap_or(&Value::Null);
        let pick = |key: &str| {
            let own = kind.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
            own.or(row[key].as_str()).unwrap_or_default().to_string()
        };
        let gvk = [
            if kind.is_object() { kind["group"].as_str().unwrap().into() } else { pick("group") },
            pick("version"),
            pick("kind"),
        ];
        for (name, ty) in types {
            let gvks = ty.get("gvk").and_then(Value::as_array);
            if gvks.is_some_and(|gvks| gvks.iter().any(|has| *has == serde_json::json!(gvk))) {
                out.push(name.clone());
                if types.contains_key(&format!("{name}List")) {
                    out.push(format!("{name}List"));
                }
            }
        }
    }
    out.extend(types.keys().filter(|name| name.contains("v1beta")).cloned());
    out
}

fn reachable(types: &BTreeMap<String, Value>, roots: &[String]) -> BTreeSet<String> {
    fn refs(shape: &Value, out: &mut Vec<String>) {
        for key in ["list", "map"] {
            if let Some(item) = shape.get(key) {
                refs(item, out);
            }
        }
        out.extend(shape.get("ref").and_then(Value::as_str).map(String::from));
    }
    let mut todo = roots.to_vec();
    let mut seen = BTreeSet::new();
    while let Some(name) = todo.pop() {
        let ty = types.get(&name).unwrap_or_else(|| panic!("types.json: no type {name}"));
        if seen.insert(name) {
            for field in ty.get("fields").and_then(Value::as_object).into_iter().flatten() {
                refs(field.1, &mut todo);
            }
        }
    }
    seen
}

#[derive(Default)]
struct Tables {
    text: String,
    starts: Vec<usize>,
    known: BTreeMap<String, usize>,
    shapes: Vec<(u8, usize)>,
    strings: Vec<usize>,
    types: String,
    type_count: usize,
    fields: String,
    field_count: usize,
    extras: Vec<String>,
    gvks: BTreeMap<(String, String, String), usize>,
}

impl Tables {
    fn new(types: &BTreeMap<String, Value>, wire: &Value, wanted: &BTreeSet<String>) -> Self {
        let mut tables = Self::default();
        tables.intern("");
        let index: BTreeMap<&str, usize> =
            wanted.iter().enumerate().map(|(index, name)| (name.as_str(), index)).collect();
        for name in wanted {
            tables.add_type(name, &types[name], types, wire, &index);
        }
        tables
    }

    fn intern(&mut self, text: &str) -> usize {
        if let Some(index) = self.known.get(text) {
            return *index;
        }
        let index = self.starts.len();
        self.starts.push(self.text.len());
        self.text.push_str(text);
        self.known.insert(text.into(), index);
        index
    }

    fn add_type(
        &mut self,
        name: &str,
        ty: &Value,
        types: &BTreeMap<String, Value>,
        wire: &Value,
        index: &BTreeMap<&str, usize>,
    ) {
        let number = self.type_count;
        self.type_count += 1;
        for gvk in ty.get("gvk").and_then(Value::as_array).into_iter().flatten() {
            let part = |at: usize| gvk[at].as_str().unwrap().to_string();
            self.gvks.insert((part(0), part(1), part(2)), number);
        }
        let scalar = match short(name) {
            _ if ty.get("fields").is_some() => 0,
            "Quantity" => 1,
            "IntOrString" => 2,
            "Time" => 3,
            "MicroTime" => 4,
            "RawExtension" => 5,
            "FieldsV1" => 6,
            _ => panic!("types.json: {name} has no fields and is no known scalar"),
        };
        let text = self.intern(name);
        writeln!(
            self.types,
            "TypeRow {{ name: {text}, first: {}, scalar: {scalar} }},",
            self.field_count
        )
        .unwrap();
        let fields: BTreeMap<_, _> =
            ty.get("fields").and_then(Value::as_object).into_iter().flatten().collect();
        for (field, shape) in fields {
            let (pb, inline) = wire_number(name, field, ty, types, wire);
            let row = self.field(name, field, shape, index);
            writeln!(self.fields, "FieldRow {{ {row}, pb: {pb}, inline: {inline} }},").unwrap();
            self.field_count += 1;
        }
    }

    fn field(
        &mut self,
        ty: &str,
        field: &str,
        shape: &Value,
        index: &BTreeMap<&str, usize>,
    ) -> String {
        let name = self.intern(field);
        let kind = self.shape(shape, index);
        let mut flags = u16::from(shape.get("required").is_some());
        let text = |key: &str| shape.get(key).and_then(Value::as_str).unwrap_or_default();
        flags |= match text("listType") {
            "map" => 2,
            "set" => 4,
            _ => 0,
        };
        flags |= if text("mapType") == "atomic" { 8 } else { 0 };
        for (strategy, flag) in [("merge", 16), ("retainKeys", 32), ("replace", 64)] {
            flags |=
                if text("patchStrategy").split(',').any(|has| has == strategy) { flag } else { 0 };
        }
        let listed = |list: &[&str]| {
            let own = format!("{}.{field}", short(ty));
            let any = format!("*.{field}");
            list.iter().any(|entry| *entry == own || *entry == any)
        };
        let required = flags & 1 != 0;
        let zero = match (text("type"), shape.get("list").is_some() || shape.get("map").is_some()) {
            (_, true) => !required,
            ("string", _) => !required && !listed(EMPTY_IS_MEANT),
            ("integer" | "boolean" | "number", _) => listed(ZERO_IS_ABSENT),
            _ => false,
        };
        flags |= if zero { 128 } else { 0 };
        let extra = self.extra(shape);
        format!("name: {name}, shape: {kind}, extra: {extra}, flags: {flags}")
    }

    /// What few fields have: default, enum, list-map keys, merge key. 0: none of it.
    fn extra(&mut self, shape: &Value) -> usize {
        let words = |key: &str| -> Vec<String> {
            let list = shape.get(key).and_then(Value::as_array).into_iter().flatten();
            list.map(|word| word.as_str().unwrap().into()).collect()
        };
        let (values, keys) = (words("enum"), words("listMapKeys"));
        let default = shape.get("default").map(Value::to_string).unwrap_or_default();
        let merge_key = shape.get("patchMergeKey").and_then(Value::as_str).unwrap_or_default();
        if values.is_empty() && keys.is_empty() && default.is_empty() && merge_key.is_empty() {
            return 0;
        }
        let [values, keys] = [values, keys].map(|list| {
            let start = self.strings.len();
            for word in &list {
                let word = self.intern(word);
                self.strings.push(word);
            }
            (start, list.len())
        });
        let (default, merge_key) = (self.intern(&default), self.intern(merge_key));
        let row = format!(
            "ExtraRow {{ default: {default}, merge_key: {merge_key}, values: ({}, {}), keys: ({}, {}) }}",
            values.0, values.1, keys.0, keys.1
        );
        self.extras.push(row);
        self.extras.len()
    }

    fn shape(&mut self, shape: &Value, index: &BTreeMap<&str, usize>) -> usize {
        let row = if let Some(name) = shape.get("ref").and_then(Value::as_str) {
            (8, index[name])
        } else if let Some(item) = shape.get("list") {
            (9, self.shape(item, index))
        } else if let Some(item) = shape.get("map") {
            (10, self.shape(item, index))
        } else {
            let format = shape.get("format").and_then(Value::as_str).unwrap_or_default();
            let tag = match (shape["type"].as_str().unwrap(), format) {
                ("string", "byte") => 1,
                ("string", _) => 0,
                ("integer", "int32") => 2,
                ("integer", _) => 3,
                ("number", _) => 4,
                ("boolean", _) => 5,
                ("any", _) => 6,
                ("object", _) => 7,
                other => panic!("types.json: unknown type {other:?}"),
            };
            (tag, 0)
        };
        let found = self.shapes.iter().position(|has| *has == row);
        found.unwrap_or_else(|| {
            self.shapes.push(row);
            self.shapes.len() - 1
        })
    }

    fn source(&self) -> String {
        let Self { text, starts, shapes, strings, types, fields, extras, gvks, .. } = self;
        assert!(text.len() < 65_536, "the strings of the schema do not fit 16-bit offsets");
        let mut starts = starts.clone();
        starts.push(text.len());
        let mut out = String::new();
        writeln!(out, "static TEXT: &str = {text:?};").unwrap();
        writeln!(out, "static STARTS: [u16; {}] = {starts:?};", starts.len()).unwrap();
        writeln!(out, "static SHAPES: [(u8, u16); {}] = {shapes:?};", shapes.len()).unwrap();
        writeln!(out, "static STRINGS: [u16; {}] = {strings:?};", strings.len()).unwrap();
        let count = self.type_count + 1;
        let end = self.field_count;
        writeln!(
            out,
            "static TYPES: [TypeRow; {count}] = [{types}TypeRow {{ name: 0, first: {end}, scalar: 0 }}];"
        )
        .unwrap();
        writeln!(out, "static FIELDS: [FieldRow; {end}] = [{fields}];").unwrap();
        let extras_count = extras.len();
        writeln!(out, "static EXTRAS: [ExtraRow; {extras_count}] = [{}];", extras.join(",\n"))
            .unwrap();
        let gvks: Vec<_> =
            gvks.iter().map(|((g, v, k), ty)| format!("({g:?}, {v:?}, {k:?}, {ty})")).collect();
        writeln!(
            out,
            "static GVKS: [(&str, &str, &str, u16); {}] = [{}];",
            gvks.len(),
            gvks.join(",\n")
        )
        .unwrap();
        out
    }
}

/// Protobuf number of a field, and of the embedded message it sits in (0: in none).
fn wire_number(
    name: &str,
    field: &str,
    ty: &Value,
    types: &BTreeMap<String, Value>,
    wire: &Value,
) -> (u64, u64) {
    if let Some(pb) = ty["fields"][field].get("pb").and_then(Value::as_u64) {
        return (pb, 0);
    }
    for (_, inline) in ty.get("pbInline").and_then(Value::as_object).into_iter().flatten() {
        let inner = inline["pbType"].as_str().unwrap();
        let known = wire.get(inner).or_else(|| types.get(inner));
        let fields = &known.unwrap_or_else(|| panic!("types.json: no type {inner}"))["fields"];
        if let Some(pb) = fields.get(field).and_then(|row| row["pb"].as_u64()) {
            return (pb, inline["pb"].as_u64().unwrap());
        }
    }
    assert!(
        ["apiVersion", "kind"].contains(&field) || ty.get("pbInline").is_none(),
        "types.json: {name}.{field} has no protobuf number"
    );
    (0, 0)
}

fn served_source(served: &[Value]) -> String {
    let mut out = format!("static SERVED: [Served; {}] = [\n", served.len());
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    for row in served {
        let text = |key: &str| row.get(key).and_then(Value::as_str).unwrap_or_default();
        let words = |key: &str| -> Vec<&str> {
            let list = row.get(key).and_then(Value::as_array).into_iter().flatten();
            list.map(|word| word.as_str().unwrap()).collect()
        };
        for verb in words("verbs") {
            assert!(verbs.contains(&verb), "resources.json: unknown verb {verb}");
        }
        let response = row.get("responseKind");
        let response_text = |key: &str| {
            response.and_then(|kind| kind.get(key)).and_then(Value::as_str).unwrap_or_default()
        };
        let columns = row.get("tableColumns").and_then(Value::as_array).into_iter().flatten();
        let columns: Vec<_> = columns
            .map(|column| {
                let text = |key: &str| column.get(key).and_then(Value::as_str).unwrap_or_default();
                format!(
                    "Column {{ name: {:?}, kind: {:?}, format: {:?}, priority: {} }}",
                    text("name"),
                    text("type"),
                    text("format"),
                    column["priority"]
                )
            })
            .collect();
        let group = if response.is_some() { response_text("group") } else { text("group") };
        let version = response_text("version");
        writeln!(
            out,
            "Served {{ group: {:?}, version: {:?}, name: {:?}, singular: {:?}, kind: {:?}, kind_group: {group:?}, \
             kind_version: {:?}, namespaced: {}, preferred: {}, verbs: &{:?}, short_names: &{:?}, categories: &{:?}, \
             columns: &[{}] }},",
            text("group"),
            text("version"),
            text("name"),
            text("singularName"),
            text("kind"),
            if version.is_empty() { text("version") } else { version },
            row["namespaced"],
            row.get("preferred").and_then(Value::as_bool).unwrap_or_default(),
            words("verbs"),
            words("shortNames"),
            words("categories"),
            columns.join(", ")
        )
        .unwrap();
    }
    out.push_str("];\n");
    out
}
