use super::*;

#[test]
fn the_shipped_file_states_the_defaults() {
    let shipped = Config::parse(include_str!("../../../packaging/coordinator.toml")).unwrap();
    assert_eq!(shipped.checked().unwrap(), Config::default());
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let cause = Config::parse("[images]\nlistenn = \"127.0.0.1:1\"\n").unwrap_err();
    assert!(cause.text.contains("line 2") && cause.text.contains("listenn"), "{cause:?}");
    assert!(Config::parse("plaintext = \"anywhere\"").is_err(), "--insecure is a flag, not a key");
}

#[test]
fn wrong_values_name_the_key_and_what_is_allowed() {
    for (text, says) in [
        ("data_dir = \"here\"", "data_dir"),
        ("listen = \"7400\"", "line 1"),
        ("[images]\nurl = \"http://a/b\"", "images.url"),
        ("[images]\nurl = \"ftp://a\"", "images.url"),
        ("[images]\nkeep_free = \"much\"", "\"512MiB\""),
        ("[images]\nuploads = 0", "images.uploads"),
        ("[scheduler]\nvcpu_overcommit = 0.0", "scheduler.vcpu_overcommit"),
        ("[scheduler]\nvcpu_overcommit = nan", "scheduler.vcpu_overcommit"),
        ("[scheduler]\nvms_per_host = 136", "135"),
        ("[router]\nheartbeat = \"0s\"", "\"30s\""),
        ("[router]\nheartbeat = \"2m\"", "router.heartbeat"),
        ("[router]\nlate_after = \"2s\"", "router.late_after"),
        ("[router]\nsessions = 0", "router.sessions"),
    ] {
        let cause = Config::parse(text).and_then(Config::checked).unwrap_err();
        assert!(format!("{} {}", cause.text, cause.advice).contains(says), "{text}: {cause:?}");
    }
}

#[test]
fn plaintext_stays_on_loopback_unless_a_flag_says_otherwise() {
    for text in ["listen = \"0.0.0.0:7400\"", "[images]\nlisten = \"192.0.2.1:7401\"", "listen = \"[::]:1\""]
    {
        let config = Config::parse(text).unwrap();
        assert_eq!(config.clone().checked().unwrap_err().reason, Reason::PlaintextRefused, "{text}");
        Config { plaintext: Plaintext::Anywhere, ..config }.checked().unwrap();
    }
    Config::parse("listen = \"[::1]:7400\"").and_then(Config::checked).unwrap();
}

#[test]
fn what_is_written_is_read_again() {
    let config = Config::default();
    assert_eq!(Config::parse(&toml::to_string(&config).unwrap()).unwrap(), config);
}
