//! Which images an object names, and what is no such object.

use serde_json::{Value, json};

use super::{BAD, GOOD, desk, desk_with, pod, pod_of, review, update};
use crate::admission::Templates;

#[tokio::test]
async fn a1_a2_a5_a9_every_list_counts_and_is_named() {
    let desk = desk();
    let good = json!({"name": "c", "image": GOOD});
    for (list, item, leaf) in [
        ("containers", json!({"name": "x", "image": BAD}), "image"),
        ("initContainers", json!({"name": "x", "image": BAD}), "image"),
        ("initContainers", json!({"name": "x", "image": BAD, "restartPolicy": "Always"}), "image"),
        ("ephemeralContainers", json!({"name": "x", "image": BAD}), "image"),
        ("volumes", json!({"name": "x", "image": {"reference": BAD}}), "image.reference"),
    ] {
        let first = if list == "volumes" { json!({"name": "v", "emptyDir": {}}) } else { good.clone() };
        let mut spec = json!({"containers": [good]});
        spec[list] = json!([first, item]);
        desk.denies(&pod(&spec), &format!("(spec.{list}[1].{leaf}; ")).await;
        let twin: Value = serde_json::from_str(&spec.to_string().replace(BAD, GOOD)).unwrap();
        desk.allows(&pod(&twin)).await;
    }
}

#[tokio::test]
async fn a3_a4_debugging_judges_the_new_container_alone_and_its_failure_counts() {
    let desk = desk();
    let ephemeral = |images: &[&str]| {
        let list: Vec<_> =
            images.iter().enumerate().map(|(i, image)| json!({"name": format!("d{i}"), "image": image})).collect();
        let mut review = pod(&json!({"containers": [{"name": "c", "image": BAD}], "ephemeralContainers": list}));
        review["request"]["subResource"] = "ephemeralcontainers".into();
        review
    };
    desk.allows(&update(&ephemeral(&[]), &ephemeral(&[GOOD]))).await;
    let said = desk.denies(&update(&ephemeral(&[]), &ephemeral(&[BAD])), "spec.ephemeralContainers[0].image").await;
    assert_eq!((said.code, said.reason.as_str()), (403, "Forbidden"));
    assert!(!said.message.contains("spec.containers"), "{}", said.message);
    desk.allows(&update(&ephemeral(&[BAD]), &ephemeral(&[BAD, GOOD]))).await;
    desk.denies(&update(&ephemeral(&[GOOD]), &ephemeral(&[GOOD, BAD])), "spec.ephemeralContainers[1].image").await;
}

#[tokio::test]
async fn a6_a7_a8_one_exempt_container_exempts_no_other() {
    let desk = desk();
    desk.lab.whitelist("listed.invalid/app", "");
    let listed = "listed.invalid/app:1";
    desk.allows(&pod_of(&[GOOD, listed, GOOD])).await;
    for (images, place) in [
        ([GOOD, BAD], "spec.containers[1].image"),
        ([GOOD, "unnamed.invalid/x"], "spec.containers[1].image"),
        ([listed, BAD], "spec.containers[1].image"),
        ([listed, "unnamed.invalid/x"], "spec.containers[1].image"),
        ([BAD, listed], "spec.containers[0].image"),
    ] {
        desk.denies(&pod_of(&images), place).await;
    }
}

#[tokio::test]
async fn a11_a_container_without_an_image_is_denied() {
    let desk = desk();
    for container in [
        json!({"name": "c", "image": ""}),
        json!({"name": "c", "image": "  "}),
        json!({"name": "c", "image": null}),
        json!({"name": "c"}),
        json!({}),
    ] {
        let said = desk.denies(&pod(&json!({"containers": [container]})), "is not a valid image reference").await;
        assert_eq!(said.code, 403);
    }
    let volume = json!({"containers": [{"name": "c", "image": GOOD}], "volumes": [{"name": "v", "image": {}}]});
    desk.denies(&pod(&volume), "spec.volumes[0].image.reference").await;
}

#[tokio::test]
async fn a12_absent_and_null_lists_are_answered_cleanly() {
    let desk = desk();
    let lists = json!({"containers": [{"name": "c", "image": GOOD}], "initContainers": null, "ephemeralContainers": [],
        "volumes": null, "imagePullSecrets": null, "serviceAccountName": null});
    desk.allows(&pod(&lists)).await;
    for spec in [json!(null), json!({}), json!({"containers": null}), json!({"containers": []})] {
        desk.denies(&pod(&spec), "the Pod cannot be read: spec").await;
    }
    let mut review = pod(&lists);
    review["request"]["object"].as_object_mut().unwrap().remove("spec");
    desk.denies(&review, "the Pod cannot be read: spec is missing").await;
    review["request"]["object"] = json!(null);
    desk.denies(&review, "the review holds no object").await;
}

fn template(image: &str) -> Value {
    json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

const TEMPLATES: [(&str, &str); 6] = [
    ("apps", "Deployment"),
    ("apps", "ReplicaSet"),
    ("apps", "StatefulSet"),
    ("apps", "DaemonSet"),
    ("", "ReplicationController"),
    ("batch", "Job"),
];

#[tokio::test]
async fn a13_a_template_that_makes_no_pod_yet_is_judged() {
    for (group, kind) in TEMPLATES {
        let object = |image| json!({"metadata": {"name": "x"}, "spec": {"replicas": 0, "template": template(image)}});
        let (good, bad) = (review(group, kind, &object(GOOD)), review(group, kind, &object(BAD)));
        desk().allows(&good).await;
        desk().denies(&bad, "spec.template.spec.containers[0].image").await;
        // Scaled up later: the template is the same, and so is what was said about it.
        let mut scaled = object(BAD);
        scaled["spec"]["replicas"] = 3.into();
        desk().allows(&update(&bad, &review(group, kind, &scaled))).await;
        desk_with(Templates::Off).allows(&bad).await;
        let warned = desk_with(Templates::Warn).allows(&bad).await;
        assert!(
            warned.warnings[0].starts_with("Pods would be denied: spec.template.spec.containers[0].image; "),
            "{warned:?}"
        );
        assert!(desk_with(Templates::Warn).allows(&good).await.warnings.is_empty());
    }
}

#[tokio::test]
async fn a14_the_template_of_a_cron_job_is_found() {
    let desk = desk();
    let job = |image| json!({"spec": {"jobTemplate": {"spec": {"template": template(image)}}}});
    desk.allows(&review("batch", "CronJob", &job(GOOD))).await;
    let place = "spec.jobTemplate.spec.template.spec.containers[0].image";
    desk.denies(&review("batch", "CronJob", &job(BAD)), place).await;
    // A Pod's spec where another kind has it does not count as one.
    let spec = json!({"spec": {"containers": [{"name": "c", "image": GOOD}]}});
    desk.denies(&review("batch", "CronJob", &spec), "spec.jobTemplate.spec.template.spec is missing").await;
    desk.denies(&review("batch", "Job", &spec), "spec.template.spec is missing").await;
    desk.denies(&review("", "Pod", &job(GOOD)), "spec.containers is missing").await;
}

#[tokio::test]
async fn a15_what_is_unknown_or_cannot_be_decoded_is_denied() {
    let desk = desk();
    let spec = json!({"spec": {"containers": [{"name": "c", "image": GOOD}]}});
    for (group, kind) in
        [("", "PodTemplate"), ("apps", "Pod"), ("example.com", "Pod"), ("apps", "Job"), ("", ""), ("", "pod")]
    {
        desk.denies(&review(group, kind, &spec), "podseal does not know how to read").await;
    }
    for wrong in [
        json!({"containers": "c"}),
        json!({"containers": {"name": "c"}}),
        json!({"containers": [["c", GOOD]]}),
        json!({"containers": ["c"]}),
        json!({"containers": [null]}),
        json!({"containers": [{"name": "c", "image": 7}]}),
        json!({"containers": [{"name": "c", "image": [GOOD]}]}),
        json!({"containers": [{"name": ["c"], "image": GOOD}]}),
        json!({"containers": [{"name": "c", "image": GOOD}], "volumes": [{"name": "v", "image": [GOOD]}]}),
        json!([[{"name": "c", "image": GOOD}]]),
        json!("spec"),
    ] {
        let said = desk.denies(&pod(&wrong), "the admission review cannot be read").await;
        assert_eq!((said.code, said.reason.as_str()), (400, "BadRequest"));
    }
}

#[tokio::test]
async fn a16_h24_fields_from_the_future_are_left_alone_and_nothing_is_rewritten() {
    let desk = desk();
    let spec = json!({"containers": [{"name": "c", "image": GOOD, "fromTheFuture": {"a": [1, null, {"b": "c"}]}}],
        "anotherList": [{"image": BAD}], "resourceClaims": 7});
    for review in [pod(&spec), pod_of(&[BAD])] {
        let said = desk.ask(&review).await;
        let response = said.json["response"].as_object().unwrap();
        let known = ["uid", "allowed", "status", "warnings", "auditAnnotations"];
        assert!(response.keys().all(|key| known.contains(&key.as_str())), "no patch: {said:?}");
    }
    desk.allows(&pod(&spec)).await;
}

#[tokio::test]
async fn a18_repeated_keys_are_refused_and_other_case_is_another_key() {
    let desk = desk();
    let text = pod_of(&[GOOD]).to_string();
    let image = format!(r#""image":"{GOOD}""#);
    for (found, replacement) in [
        (image.clone(), format!(r#"{image},"image":"{BAD}""#)),
        (image.clone(), format!(r#""image":"{BAD}",{image}"#)),
        (r#""spec":{"#.to_owned(), format!(r#""spec":{{"containers":[{{"name":"c","image":"{BAD}"}}]}},"spec":{{"#)),
        (r#""containers":["#.to_owned(), r#""containers":[],"containers":["#.to_owned()),
        (
            r#""namespace":"team","object""#.to_owned(),
            r#""namespace":"kube-system","namespace":"team","object""#.to_owned(),
        ),
        (r#""operation":"CREATE""#.to_owned(), r#""operation":"DELETE","operation":"CREATE""#.to_owned()),
    ] {
        assert!(text.contains(&found), "{found} in {text}");
        let said = desk.ask_text(&text.replacen(&found, &replacement, 1)).await;
        assert!(!said.allowed && said.message.contains("duplicate field"), "{replacement}: {said:?}");
    }
    let spec = |container: Value| pod(&json!({"containers": [container]}));
    desk.denies(&spec(json!({"name": "c", "Image": GOOD})), "is not a valid image reference").await;
    desk.denies(&spec(json!({"name": "c", "image": BAD, "Image": GOOD})), BAD).await;
    desk.allows(&spec(json!({"name": "c", "image": GOOD, "Image": BAD, "IMAGE": BAD}))).await;
    desk.denies(&pod(&json!({"Containers": [{"name": "c", "image": GOOD}]})), "spec.containers is missing").await;
}
