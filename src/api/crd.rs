//! The custom resource definitions, made from the wire types; `crds/` holds what this code prints.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt as _;

use super::image_signature::ImageSignature;
use super::policy::{ClusterRegistrySecurityPolicy, RegistrySecurityPolicy};

/// API group of the policies.
pub const GROUP: &str = "tmax.io";
/// Their one version, served and stored.
pub const VERSION: &str = "v1";
/// API group of records of signatures.
pub const RECORD_GROUP: &str = "podseal.io";

/// The annotation of the definitions that says which version of their schema this is.
pub const SCHEMA_VERSION_ANNOTATION: &str = "podseal.io/schema-version";
/// Counts up with every change of the definitions that is released: a controller replaces those with a lower number.
pub const SCHEMA_VERSION: u32 = 2;

const HEADER: &str = "# Made by `podseal crds`; changes belong into src/api/.\n";

/// The two kinds of policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// `ClusterRegistrySecurityPolicy`.
    Cluster,
    /// `RegistrySecurityPolicy`.
    Namespaced,
}

/// The kinds that podseal defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A policy.
    Policy(PolicyKind),
    /// `ImageSignature`, which no decision depends on.
    Signature,
}

impl PolicyKind {
    /// `kind` of its objects.
    pub fn kind(self) -> &'static str {
        Kind::Policy(self).kind()
    }

    /// The resource name in URLs and roles.
    pub fn plural(self) -> &'static str {
        Kind::Policy(self).plural()
    }
}

/// A definition could not be written as YAML; a defect of this program.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the definition of {kind} as YAML")]
pub struct CrdError {
    kind: &'static str,
    source: serde_saphyr::SerializeError,
}

impl Kind {
    /// All, policies first.
    pub const ALL: [Self; 3] =
        [Self::Policy(PolicyKind::Cluster), Self::Policy(PolicyKind::Namespaced), Self::Signature];

    /// `kind` of its objects.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Policy(PolicyKind::Cluster) => "ClusterRegistrySecurityPolicy",
            Self::Policy(PolicyKind::Namespaced) => "RegistrySecurityPolicy",
            Self::Signature => "ImageSignature",
        }
    }

    /// The resource name in URLs and roles.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Policy(PolicyKind::Cluster) => "clusterregistrysecuritypolicies",
            Self::Policy(PolicyKind::Namespaced) => "registrysecuritypolicies",
            Self::Signature => "imagesignatures",
        }
    }

    /// What `kubectl get` also takes.
    pub fn short_name(self) -> &'static str {
        match self {
            Self::Policy(PolicyKind::Cluster) => "crsp",
            Self::Policy(PolicyKind::Namespaced) => "rsp",
            Self::Signature => "imgsig",
        }
    }

    /// Its API group.
    pub fn group(self) -> &'static str {
        match self {
            Self::Policy(_) => GROUP,
            Self::Signature => RECORD_GROUP,
        }
    }

    /// The kind of that `kind`, plural or short name.
    pub fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| [k.kind(), k.plural(), k.short_name()].contains(&name))
    }

    /// Name of the definition's file in `crds/`: the definition's own name and `.yaml`.
    pub fn file_name(self) -> String {
        format!("{}.{}.yaml", self.plural(), self.group())
    }

    /// The definition.
    pub fn definition(self) -> CustomResourceDefinition {
        let mut crd = match self {
            Self::Policy(PolicyKind::Cluster) => ClusterRegistrySecurityPolicy::crd(),
            Self::Policy(PolicyKind::Namespaced) => RegistrySecurityPolicy::crd(),
            Self::Signature => ImageSignature::crd(),
        };
        let version = (SCHEMA_VERSION_ANNOTATION.to_owned(), SCHEMA_VERSION.to_string());
        crd.metadata.annotations.get_or_insert_default().extend([version]);
        for version in &mut crd.spec.versions {
            if let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
                plain(root);
            }
        }
        crd
    }

    /// The definition as a YAML document that `kubectl apply` takes, ending in a newline.
    pub fn yaml(self) -> Result<String, CrdError> {
        serde_saphyr::to_string(&self.definition())
            .map(|yaml| format!("{HEADER}{}\n", yaml.trim_end()))
            .map_err(|source| CrdError { kind: self.kind(), source })
    }
}

/// The custom resource definitions, policies first.
pub fn crds() -> Vec<CustomResourceDefinition> {
    Kind::ALL.map(Kind::definition).into()
}

/// All definitions as one YAML stream.
pub fn crds_yaml() -> Result<String, CrdError> {
    let documents = Kind::ALL.into_iter().map(Kind::yaml).collect::<Result<Vec<_>, _>>()?;
    Ok(documents.join("---\n"))
}

/// Takes out what the derived schema has too much, and the line breaks of the source from descriptions.
///
/// `default`: the API server must not store anything that the author of an object did not write. `nullable`, and `null`
/// among the values of an enumeration: the original fields are without it, and `null` says no more than absence.
fn plain(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.default = None;
    schema.title = None;
    if let Some(text) = &mut schema.description {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(values) = &mut schema.enum_ {
        values.retain(|value| !value.0.is_null());
    }
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        plain(property);
    }
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(item)) => plain(item),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(plain),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        plain(values);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::api::cosign::{ATTESTATION, COSIGN, KEYLESS, WORKFLOW};
    use crate::api::entry::ENTRY;
    use crate::api::identity::IDENTITY;
    use crate::api::notary::NOTARY_TRUST;

    const POLICIES: [Kind; 2] = [Kind::Policy(PolicyKind::Cluster), Kind::Policy(PolicyKind::Namespaced)];

    fn root(kind: Kind) -> JSONSchemaProps {
        kind.definition().spec.versions.remove(0).schema.unwrap().open_api_v3_schema.unwrap()
    }

    fn properties(schema: &JSONSchemaProps) -> &BTreeMap<String, JSONSchemaProps> {
        schema.properties.as_ref().unwrap()
    }

    fn item(schema: &JSONSchemaProps) -> &JSONSchemaProps {
        match schema.items.as_ref().unwrap() {
            JSONSchemaPropsOrArray::Schema(item) => item,
            JSONSchemaPropsOrArray::Schemas(_) => panic!("not structural"),
        }
    }

    fn entry(kind: Kind) -> JSONSchemaProps {
        item(&properties(&properties(&root(kind))["spec"])["registries"]).clone()
    }

    #[test]
    fn names_are_those_of_the_original() {
        for (kind, scope, short) in [(POLICIES[0], "Cluster", "crsp"), (POLICIES[1], "Namespaced", "rsp")] {
            let crd = kind.definition();
            assert_eq!(crd.metadata.name.as_deref(), Some(format!("{}.tmax.io", kind.plural()).as_str()));
            assert_eq!((crd.spec.group.as_str(), crd.spec.scope.as_str()), (GROUP, scope));
            assert_eq!(crd.spec.names.short_names, Some(vec![short.to_owned()]));
            assert_eq!((crd.spec.names.kind.as_str(), crd.spec.names.plural.as_str()), (kind.kind(), kind.plural()));
            assert_eq!(crd.spec.names.singular, Some(kind.kind().to_lowercase()));
            let [version] = &crd.spec.versions[..] else { panic!("one version") };
            assert_eq!((version.name.as_str(), version.served, version.storage), (VERSION, true, true));
            assert!(version.subresources.as_ref().unwrap().status.is_some());
            for name in [kind.kind(), kind.plural(), short] {
                assert_eq!(Kind::find(name), Some(kind));
            }
        }
        assert_eq!(Kind::find("SignerPolicy"), None);
    }

    #[test]
    fn records_have_names_of_their_own_and_a_spec_that_cannot_be_changed() {
        let crd = Kind::Signature.definition();
        assert_eq!(crd.metadata.name.as_deref(), Some("imagesignatures.podseal.io"));
        assert_eq!((crd.spec.group.as_str(), crd.spec.scope.as_str()), (RECORD_GROUP, "Cluster"));
        assert_eq!(crd.spec.names.short_names, Some(vec!["imgsig".to_owned()]));
        let [version] = &crd.spec.versions[..] else { panic!("one version") };
        assert_eq!((version.name.as_str(), version.served, version.storage), ("v1alpha1", true, true));
        assert!(version.subresources.as_ref().unwrap().status.is_some());
        let root = root(Kind::Signature);
        let rules = |schema: &JSONSchemaProps| -> Vec<String> {
            schema.x_kubernetes_validations.iter().flatten().map(|rule| rule.rule.clone()).collect()
        };
        assert_eq!(rules(&properties(&root)["spec"]), ["self == oldSelf"]);
        assert!(rules(&root)[0].contains("self.metadata.name"), "{:?}", rules(&root));
        assert_eq!(Kind::find("imgsig"), Some(Kind::Signature));
    }

    #[test]
    fn i13_fields_of_the_original_keep_type_and_requiredness_and_gain_no_constraint() {
        for kind in POLICIES {
            let entry = entry(kind);
            assert_eq!(entry.required, Some(vec!["registry".to_owned(), "signCheck".to_owned()]));
            for (name, type_) in [
                ("registry", "string"),
                ("signCheck", "boolean"),
                ("notary", "string"),
                ("cosignKeyRef", "string"),
                ("signer", "array"),
            ] {
                let mut field = properties(&entry)[name].clone();
                assert!(field.description.take().is_some());
                let items =
                    (type_ == "array").then(|| JSONSchemaProps { type_: Some("string".into()), ..Default::default() });
                let bare = JSONSchemaProps {
                    type_: Some(type_.into()),
                    items: items.map(|item| JSONSchemaPropsOrArray::Schema(Box::new(item))),
                    ..Default::default()
                };
                assert_eq!(field, bare, "{name}");
            }
            let root = root(kind);
            assert_eq!(root.required, Some(vec!["spec".to_owned()]));
            let spec = &properties(&root)["spec"];
            assert_eq!(spec.required, Some(vec!["registries".to_owned()]));
            let list = &properties(spec)["registries"];
            assert_eq!((list.min_items, list.max_items, &list.x_kubernetes_list_type), (None, None, &None));
        }
    }

    /// What has the number [`SCHEMA_VERSION`]. Once that number is released, a change of the definitions needs the next
    /// one, or controllers will not replace those that are served.
    const OF_THIS_VERSION: &str = "f3485429323ff499";

    #[test]
    fn the_version_counts_up_with_the_definitions() {
        let yaml = crds_yaml().unwrap();
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, yaml.as_bytes());
        let hash =
            hash.as_ref().first_chunk::<8>().map(|&bytes| format!("{:016x}", u64::from_be_bytes(bytes))).unwrap();
        assert_eq!(hash, OF_THIS_VERSION, "SCHEMA_VERSION {SCHEMA_VERSION}: released? then count it up");
    }

    #[test]
    fn schema_and_reader_know_the_same_fields() {
        let keys = |schema: &JSONSchemaProps| properties(schema).keys().cloned().collect::<Vec<_>>();
        let sorted = |names: &[&str]| {
            let mut names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
            names.sort();
            names
        };
        for kind in POLICIES {
            let entry = entry(kind);
            assert_eq!(keys(&entry), sorted(&ENTRY));
            let cosign = &properties(&entry)["cosign"];
            assert_eq!(keys(cosign), sorted(&COSIGN));
            assert_eq!(keys(&properties(cosign)["signedIdentity"]), sorted(&IDENTITY));
            let keyless = item(&properties(cosign)["identities"]);
            assert_eq!(keys(keyless), sorted(&KEYLESS));
            assert_eq!(keys(&properties(keyless)["githubWorkflow"]), sorted(&WORKFLOW));
            assert_eq!(keys(item(&properties(cosign)["attestations"])), sorted(&ATTESTATION));
            assert_eq!(keys(&properties(&entry)["notaryTrust"]), sorted(&NOTARY_TRUST));
            assert_eq!(keys(&properties(&entry)["signedIdentity"]), sorted(&IDENTITY));
        }
    }

    #[test]
    fn every_field_is_described_and_none_has_a_default() {
        fn walk(path: &str, schema: &JSONSchemaProps) {
            assert_eq!((&schema.default, schema.nullable), (&None, None), "{path}");
            assert_eq!((&schema.any_of, &schema.one_of), (&None, &None), "{path}");
            // Which fields go together; it says nothing about what they are.
            for part in schema.all_of.iter().flatten().flat_map(|all| all.one_of.iter().flatten()) {
                assert_eq!(*part, JSONSchemaProps { required: part.required.clone(), ..Default::default() }, "{path}");
            }
            assert!(schema.enum_.iter().flatten().all(|value| value.0.is_string()), "{path}");
            assert_ne!(schema.x_kubernetes_preserve_unknown_fields, Some(true), "{path}");
            for (name, property) in schema.properties.iter().flatten() {
                let path = format!("{path}.{name}");
                let text = property.description.as_deref().unwrap_or_default();
                assert!(path == ".metadata" || text.len() > 8, "{path} has no description");
                walk(&path, property);
            }
            if schema.items.is_some() {
                walk(&format!("{path}[]"), item(schema));
            }
        }
        for kind in Kind::ALL {
            walk("", &root(kind));
        }
    }

    #[test]
    fn yaml_reads_back_as_what_was_written() {
        for kind in Kind::ALL {
            let yaml = kind.yaml().unwrap();
            let back: CustomResourceDefinition = serde_saphyr::from_str(&yaml).unwrap();
            assert_eq!(back, kind.definition());
            assert_eq!(yaml, kind.yaml().unwrap());
        }
        assert_eq!(crds_yaml().unwrap().matches("\n---\n").count(), 2);
    }

    /// `UPDATE_GENERATED=1 cargo test --lib generated` writes them.
    #[test]
    fn generated_files_are_what_the_code_makes() {
        for kind in Kind::ALL {
            let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("crds").join(kind.file_name());
            let yaml = kind.yaml().unwrap();
            if std::env::var_os("UPDATE_GENERATED").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &yaml).unwrap();
            }
            let on_disk = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(
                on_disk == yaml,
                "{} is out of date: UPDATE_GENERATED=1 cargo test --lib generated",
                path.display()
            );
        }
    }
}
