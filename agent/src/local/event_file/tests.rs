use super::*;

const VM: &str = "018f3c5e-7c1a-7d3e-9a5b-2f6d8c4b1a90";

fn image(name: &str) -> Result<ImageRef, Cause> {
    Ok(ImageRef {
        digest: "11".repeat(32).parse().unwrap(),
        size_bytes: 1,
        virtual_size_bytes: 1 << 30,
        local_path: Some(name.to_owned()),
    })
}

fn toml(text: &str) -> Result<Event, Cause> {
    parse(text, Syntax::Toml, Millis(1000), image)
}

#[test]
fn a_create_in_toml_says_all_that_a_vm_is_made_of() {
    let event = toml(
        "kind = 'create'\nname = 'web'\nvcpus = 2\nmemory = '512MiB'\nimage = '/i.qcow2'\nnot_after = '5s'\n\
         restart = 'always'\n\
         [[nics]]\nmac = '52:54:00:00:00:01'\naddresses = ['192.0.2.5/24']\ngateway4 = '192.0.2.1'\n",
    )
    .unwrap();
    assert_eq!(event.not_after, Some(Millis(6000)));
    let Kind::Create(create) = event.kind else { panic!("{event:?}") };
    assert_eq!((create.spec.name.as_str(), create.spec.memory_bytes), ("web", 512 << 20));
    assert_eq!(create.spec.restart, Restart::Always);
    assert_eq!(create.spec.disk_bytes, 1 << 30, "the image's virtual size when none is given");
}

#[test]
fn json_says_the_same() {
    let text = format!("{{\"kind\":\"stop\",\"vm\":\"{VM}\",\"force\":true,\"timeout\":\"20s\"}}");
    let event = parse(&text, Syntax::Json, Millis(0), image).unwrap();
    assert_eq!(event.kind, Kind::Stop(Stop { stubborn: Stubborn::Force, timeout_seconds: Some(20) }));
}

#[test]
fn each_mistake_names_key_what_was_found_and_what_is_allowed() {
    let stop = format!("kind = 'stop'\nvm = '{VM}'\n");
    let create = "kind = 'create'\nname = 'x'\nvcpus = 1\nmemory = '1GiB'\nimage = '/i'\n";
    let without =
        |key: &str| create.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n");
    let mut listing = String::new();
    for text in [
        "kind = 'explode'".to_owned(),
        "kind = 7".to_owned(),
        "vm = 'x'".to_owned(),
        "kind = stop".to_owned(),
        "kind = 'start'".to_owned(),
        "kind = 'start'\nvm = 'web'".to_owned(),
        "kind = 'start'\nvm = '00000000-0000-0000-0000-000000000000'".to_owned(),
        format!("kind = 'cancel'\nvm = '{VM}'\ntarget = 'it'"),
        format!("{stop}forse = true"),
        format!("{stop}force = 'very'"),
        format!("{stop}timeout = 30"),
        format!("{stop}timeout = '30 apples'"),
        format!("{stop}not_after = 'soon'"),
        format!("{}\nname = '../x'", without("name")),
        format!("{}\nvcpus = 0", without("vcpus")),
        format!("{}\ndisk = '1B'", create),
        format!("{create}disk = '1GiB'\ndisk = '2GiB'"),
        format!("{create}user_data_file = '/nowhere/at/all'"),
        format!("{create}image_name = 'x'"),
        format!("{}\nvcpus = 'two'", without("vcpus")),
        format!("{}\nmemory = '1 GB'", without("memory")),
        format!("{}\nmemory = 1024", without("memory")),
        format!("{}\nmemory = '1KiB'", without("memory")),
        without("memory"),
        format!("{create}disk_mode = 'thin'"),
        format!("{create}[[nics]]\nmac = 'ff:ff'"),
        format!("{create}[[nics]]\naddresses = ['192.0.2.5/24', 7]"),
        format!("{create}[[nics]]\nbridg = 'br0'"),
        format!("{create}[labels]\nrole = 7"),
    ] {
        let cause = toml(&text).unwrap_err();
        let last = text.lines().last().unwrap_or_default();
        listing.push_str(&format!("{last}\n    {}\n    -> {}\n", cause.text, cause.advice));
    }
    insta::assert_snapshot!(listing);
}

#[test]
fn each_mistake_in_json_names_key_or_line_what_was_found_and_what_is_allowed() {
    let mut listing = String::new();
    for text in [
        String::new(),
        "[1, 2]".to_owned(),
        "\"stop\"".to_owned(),
        "{\"kind\": \"stop\",\n \"vm\":".to_owned(),
        "{\"kind\": null}".to_owned(),
        "{\"kind\": \"stop\"} {}".to_owned(),
        "{kind: \"stop\"}".to_owned(),
        format!("{{\"kind\": \"stop\", \"vm\": \"{VM}\",\n \"force\": false, \"force\": true}}"),
        format!("{{\"kind\": \"stop\", \"vm\": \"{VM}\", \"forse\": true}}"),
        format!("{{\"kind\": \"stop\", \"vm\": \"{VM}\", \"timeout\": 30}}"),
        "{\"kind\": \"create\", \"labels\": {\"a\": \"1\", \"a\": \"2\"}}".to_owned(),
    ] {
        let cause = parse(&text, Syntax::Json, Millis(0), image).unwrap_err();
        listing.push_str(&format!("{}\n    {}\n    -> {}\n", text.escape_debug(), cause.text, cause.advice));
    }
    insta::assert_snapshot!(listing);
}

#[test]
fn a_file_of_any_bytes_is_an_error_that_names_the_file() {
    use proptest::prelude::*;
    let folder = tempfile::tempdir().unwrap();
    proptest!(ProptestConfig::with_cases(64), |(bytes in prop::collection::vec(any::<u8>(), 0..256), json in any::<bool>())| {
        let path = folder.path().join(if json { "event.json" } else { "event.toml" });
        std::fs::write(&path, bytes).unwrap();
        let cause = read(&path, Millis(0), image).unwrap_err();
        prop_assert!(cause.text.contains("event."), "{cause}");
    });
}
