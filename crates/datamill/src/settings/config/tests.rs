use std::env::VarError;
use std::fs;

use tempfile::TempDir;

use super::*;

/// What the environment of these tests holds.
fn environment(name: &str) -> Result<String, VarError> {
    match name {
        "SERVERS" => Ok("broker-1:9093,broker-2:9093".to_owned()),
        "PASSWORD" => Ok("hunter2 %x $y".to_owned()),
        "EMPTY" => Ok(String::new()),
        "MOUNTED" => Ok("hunter2\n".to_owned()),
        "TWO_LINES" => Ok("hunter2\r\nhunter3\n".to_owned()),
        "BLANK" => Ok("hunter2 ".to_owned()),
        "QUOTED" => Ok("\"hunter2\"".to_owned()),
        _ => Err(VarError::NotPresent),
    }
}

struct Folder {
    folder: TempDir,
}

impl Folder {
    fn with(name: &str, text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::write(&file, text).unwrap();
        #[cfg(unix)]
        fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        Self { folder }
    }

    fn load(&self, name: &str) -> Result<Config, SettingsError> {
        Config::load_from(Some(name), Some(self.folder.path().into()), &environment)
    }
}

fn load(text: &str) -> Result<Config, SettingsError> {
    Folder::with("lab.config", text).load("lab")
}

/// As [`load`], with a broker named above the text.
fn load_with_broker(text: &str) -> Result<Config, SettingsError> {
    load(&format!("[broker]\nbootstrap.servers = a:1\n{text}"))
}

fn error(text: &str) -> String {
    load(text).unwrap_err().to_string()
}

fn get<'a>(properties: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    properties.get(key).map(String::as_str)
}

const USUAL: &str = "\
[broker]
bootstrap.servers = $SERVERS
security.protocol = SASL_SSL
sasl.mechanism = PLAIN
sasl.username = me
sasl.password = ${PASSWORD}
node_id = X

[producer]
batch.size = 200000.0
retries = 3
linger.ms = 100
compression.type = lz4
key.serializer = StringSerializer
value.serializer = DataFileChunkSerializer

[consumer]
Group.ID = create_new
auto.offset.reset = smallest
enable.auto.commit = False
fetch.min.bytes = 100000
key.deserializer = StringDeserializer
value.deserializer = DataFileChunkDeserializer
";

#[test]
fn a_file_becomes_the_properties_of_librdkafka() {
    let config = load(USUAL).unwrap();
    let Properties { broker, producer, consumer, options } = config.properties();
    assert_eq!(options, "--config lab");
    assert_eq!(get(broker, SERVERS), Some("broker-1:9093,broker-2:9093"));
    assert_eq!(get(broker, "sasl.password"), Some("hunter2 %x $y"));
    assert_eq!(broker.len(), 5);
    assert_eq!(get(producer, "batch.size"), Some("200000"));
    assert_eq!(producer.len(), 4);
    assert_eq!(get(consumer, "enable.auto.commit"), Some("false"));
    assert_eq!(get(consumer, "fetch.min.bytes"), Some("100000"));
    assert_eq!(consumer.len(), 2);
    assert_eq!(config.group_id(), Some(&GroupId::CreateNew));
    assert_eq!(config.first_start(), Some(FirstStart::Earliest));
    assert!(!config.is_default_log());
    assert!(config.warnings().is_empty());
}

#[test]
fn without_a_file_the_log_is_the_embedded_one_in_the_current_folder() {
    let config = Config::load_from(None, None, &environment).unwrap();
    assert_eq!(get(&config.properties().broker, SERVERS), Some("sqlite:datamill.db"));
    assert!(config.is_default_log());
    assert_eq!(config.group_id(), None);
    assert_eq!(config.first_start(), None);
    assert_eq!(config.properties().options, "");
}

#[test]
fn a_file_is_found_by_path_and_by_name() {
    let folder = Folder::with("lab.config", USUAL);
    assert!(folder.load("lab").is_ok());
    assert!(folder.load("lab.config").is_ok());
    let path = folder.folder.path().join("lab.config");
    let config = Config::load_from(path.to_str(), None, &environment).unwrap();
    assert_eq!(config.file(), Some(path.as_path()));

    let error = folder.load("other").unwrap_err().to_string();
    assert!(error.contains("`other`") && error.contains("other.config`"), "{error}");
    assert!(!error.contains(locate::CONFIG_DIR_VARIABLE), "{error}");
    let error = Config::load_from(Some("other"), None, &environment).unwrap_err().to_string();
    assert!(error.contains(locate::CONFIG_DIR_VARIABLE), "{error}");
}

#[test]
fn an_unset_variable_is_named_with_its_place() {
    let error = error("[broker]\nbootstrap.servers = $KAFKA_SERVERS\n");
    for part in ["lab.config` line 2", "`bootstrap.servers`", "`[broker]`", "`KAFKA_SERVERS` is not set", "set it"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(load_with_broker("client.rack = $EMPTY\n").is_ok());
}

#[test]
fn variables_are_filled_in_as_python_does() {
    for (value, expected) in [
        ("$EMPTY", ""),
        ("${SERVERS},c:1", "broker-1:9093,broker-2:9093,c:1"),
        ("$EMPTY/ca.pem", "/ca.pem"),
        ("$EMPTY$NOT_SET${NOT_SET}$", "$NOT_SET${NOT_SET}$"),
        ("$EMPTY/$PASSWORD/${EMPTY}x$1", "/hunter2 %x $y/x$1"),
        ("a$SERVERS", "a$SERVERS"),
    ] {
        let config = load_with_broker(&format!("client.rack = {value}\n")).unwrap();
        assert_eq!(get(&config.properties().broker, "client.rack"), Some(expected), "{value}");
    }
    for value in ["$", "$/x", "${}", "${EMPTY", "$NOT_SET/$EMPTY", "$1"] {
        let error = error(&format!("[broker]\nclient.rack = {value}\n"));
        assert!(error.contains("lab.config` line 2") && error.contains("that is set"), "{value}: {error}");
    }
}

#[test]
fn variables_of_sections_that_a_program_does_not_use_may_be_unset() {
    let config =
        load_with_broker("[s3]\nsecret_key_id = $NOT_SET\nregion = eu\n[heartbeat]\nclient.id = $NOT_SET\n").unwrap();
    assert!(matches!(config.section("s3"), Err(SettingsError::UnsetVariable { .. })));
    assert!(matches!(config.properties_of("heartbeat"), Err(SettingsError::UnsetVariable { .. })));
    assert!(config.section("girder").unwrap().is_none());
    let config = load_with_broker("[s3]\nsecret_key_id = $PASSWORD\nregion = eu\n").unwrap();
    assert_eq!(config.section("s3").unwrap().unwrap().len(), 2);
}

#[test]
fn secrets_are_in_no_error_and_no_debug_print() {
    let config = load(USUAL).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));

    for text in [
        "[broker]\nsasl.password = $hunter-2!\n",
        "[broker]\nsasl.password = hunter%2\n",
        "[broker]\nsasl.password = hunter%(2)s\n",
        "[broker]\nsasl.pasword = hunter2\n",
        "[broker]\nsasl.password hunter2\n",
        "[broker]\nsasl.password = a\nsasl.password = hunter2\n",
        "[broker]\nsasl.password = $hunter2\n",
        "[broker]\nsasl.password = ${hunter2}\n",
        "[broker]\nsasl.username = $hunter2\n",
        "[broker]\nsasl.password hunter2=%x\n",
        "[broker]\nsasl.password hunter2=$hunter3\n",
        "[broker]\nssl.cipher.suites = %(hunter2)s\n",
        "[broker]\nsasl.mechanism = 'hunter2'\n",
        "[broker]\nsecurity.protocol = hunter2 # x\n",
        "[broker]\nenable.ssl.certificate.verification = $hunter2/\n",
        "[broker]\nhunter2=\n",
        "[broker]\nbootstrap.servers = me:hunter2@a:1\n",
        "[broker]\nbootstrap.servers = 'sasl_ssl://me:hunter2@a:1'\n",
    ] {
        let error = load(text).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter"), "{error:?}");
        assert!(error.to_string().contains("line "), "{error}");
    }
}

#[test]
fn what_is_wrong_in_a_file_is_named_with_its_line() {
    for (text, parts) in [
        ("a = 1\n", vec!["line 1", "[broker]"]),
        ("[broker]\n[broker]\n", vec!["line 2", "twice"]),
        ("[broker]\nclient.id = 1\nCLIENT.ID = 2\n", vec!["line 3", "`client.id`", "`[broker]`"]),
        ("[broker]\n\nclient.id\nx\n", vec!["line 3", "(nor are lines 4)"]),
        ("[broker]\nclient.id = 5%\n", vec!["line 2", "`client.id`", "`%%`"]),
        ("[broker]\nclient.id = %(nothing)s\n", vec!["line 2", "`%(nothing)s`"]),
        ("[producer]\nretris = 1\n", vec!["line 2", "`retris`", "did you mean `retries`"]),
        ("[producer]\nretries = many\n", vec!["line 2", "`many` is not a whole number"]),
        (
            "[producer]\nvalue.serializer = AvroSerializer\n",
            vec!["line 2", "`AvroSerializer`", "DataFileChunkSerializer"],
        ),
        ("[consumer]\nauto.offset.reset = sometimes\n", vec!["line 2", "`sometimes`", "`earliest`"]),
        ("[consumer]\ngroup.id =\n", vec!["line 2", "`create_new`"]),
        ("[kafkacrypto]\nnode_id = 1\n", vec!["encrypted messages are not supported", "[kafkacrypto]"]),
        (
            "[broker]\nbootstrap.servers = a:1\n[consumer]\nbootstrap.servers = b:1\n",
            vec!["line 4", "`[consumer]`", "another `bootstrap.servers` than in `[broker]`"],
        ),
    ] {
        let error = error(text);
        assert!(parts.iter().all(|part| error.contains(part)), "{text:?}: {error}");
    }
}

#[test]
fn a_file_that_is_not_text_is_refused_with_its_line() {
    let folder = Folder::with("lab.config", "");
    fs::write(folder.folder.path().join("lab.config"), b"[broker]\nclient.id = \xff\n").unwrap();
    assert!(matches!(folder.load("lab"), Err(SettingsError::NotText { line: 2, .. })));
    fs::write(folder.folder.path().join("lab.config"), "\u{feff}[broker]\nbootstrap.servers = x\n").unwrap();
    assert!(folder.load("lab").is_ok());
}

#[test]
fn the_first_start_of_a_group_has_several_names() {
    for (value, wanted) in [
        ("earliest", Some(FirstStart::Earliest)),
        ("beginning", Some(FirstStart::Earliest)),
        ("latest", Some(FirstStart::Latest)),
        ("largest", Some(FirstStart::Latest)),
        ("end", Some(FirstStart::Latest)),
        ("error", Some(FirstStart::Error)),
        ("none", None),
    ] {
        let config = load_with_broker(&format!("[consumer]\nauto.offset.reset = {value}\ngroup.id = g\n")).unwrap();
        assert_eq!(config.first_start(), wanted, "{value}");
        assert_eq!(config.group_id(), Some(&GroupId::Named("g".to_owned())));
        assert!(config.properties().consumer.is_empty());
    }
}

#[test]
fn servers_may_stand_under_another_name_or_in_another_section() {
    let config = load("[broker]\nmetadata.broker.list = a:1\n[producer]\nbootstrap.servers = a:1\n").unwrap();
    assert_eq!(get(&config.properties().broker, SERVERS), Some("a:1"));
    assert!(config.properties().producer.is_empty());
    let config = load("[consumer]\nbootstrap.servers = a:1\n").unwrap();
    assert_eq!(get(&config.properties().broker, SERVERS), Some("a:1"));
    assert!(!config.is_default_log());
}

#[test]
fn defaults_that_only_serve_to_be_referred_to_are_no_properties() {
    let config = load("[DEFAULT]\nhost = lab\n[broker]\nbootstrap.servers = %(host)s:9092\n").unwrap();
    assert_eq!(get(&config.properties().broker, SERVERS), Some("lab:9092"));
    assert_eq!(config.properties().broker.len(), 1);
}

#[test]
fn a_file_without_a_broker_or_with_an_unknown_section_is_refused() {
    for text in [
        "",
        "# nothing\n",
        "[consumer]\ngroup.id = g\n",
        "[broker]\nbootstrap.servers =\n",
        "[heartbeat]\nbootstrap.servers = a:1\n",
    ] {
        let error = error(text);
        assert!(error.contains("lab.config` names no broker") && error.contains("sqlite:FILE"), "{text:?}: {error}");
    }
    for (section, said) in [
        ("brokers", "did you mean `[broker]`"),
        ("Broker", "did you mean `[broker]`"),
        ("comsumer", "did you mean `[consumer]`"),
        ("instrument", "the sections are `[broker]`, `[producer]`"),
    ] {
        let error = load_with_broker(&format!("[{section}]\nanything = 1\n")).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains(&format!("`[{section}]`")), "{error}");
        assert!(error.contains(said), "{error}");
    }
    assert!(load("[DEFAULT]\nbootstrap.servers = a:1\n[broker]\n").is_ok());
}

#[test]
fn what_a_beginner_writes_around_a_value_works_or_is_named() {
    for (text, servers) in [
        ("bootstrap.servers: a:1\r\n", "a:1"),
        ("bootstrap.servers = a:1, b:2\n", "a:1,b:2"),
        ("bootstrap.servers =\n    a:1\n    SASL_SSL://b:2\n", "a:1,SASL_SSL://b:2"),
        ("bootstrap.servers = sqlite: /x/my log.db\n", "sqlite:/x/my log.db"),
    ] {
        let config = load(&format!("[broker]\n{text}")).unwrap();
        assert_eq!(get(&config.properties().broker, SERVERS), Some(servers), "{text:?}");
    }
    for (line, parts) in [
        ("bootstrap.servers = \"a:1\"", ["`\"a:1\"` is in quotation marks", "remove them"]),
        ("bootstrap.servers = 'a:1'", ["`'a:1'` is in quotation marks", "remove them"]),
        ("bootstrap.servers = a:1 # lab", ["looks like a comment", "a line of its own"]),
        ("bootstrap.servers = http://a:1", ["`http://a:1` is not an address", "kafka.example.org:9092"]),
        ("bootstrap.servers = SQLite:log.db", ["`SQLite:log.db` is not an address", "`sqlite:FILE`"]),
        ("bootstrap.servers a:1", ["key `bootstrap.servers` in", "write `=` between"]),
        ("bootstrap.servers = a:1\n  security.protocol = SSL", ["a line below it is indented", "remove the blanks"]),
        ("client.id = x\n  security.protocol = SSL", ["a line below it is indented", "remove the blanks"]),
        ("security.protocol = \"SSL\"", ["the value is in quotation marks", "remove them"]),
        ("retries = \"5\"", ["`\"5\"` is in quotation marks", "remove them"]),
        ("sasl.password = hunter2\n  client.id = x", ["a line below it is indented", "remove the blanks"]),
        ("sasl.password hunter2:x", ["key `sasl.password` in", "write `=` between"]),
        ("sasl.pasword hunter2:x", ["key `sasl.pasword` in", "did you mean `sasl.password`"]),
    ] {
        let error = load(&format!("[broker]\n{line}\n")).unwrap_err();
        let said = error.to_string();
        assert!(said.contains("line 2") && parts.iter().all(|part| said.contains(part)), "{line:?}: {said}");
        assert!(!format!("{said} {error:?}").contains("hunter"), "{error:?}");
    }
    let config = load_with_broker("sasl.password = \"hunter2\"\n[consumer]\ngroup.id = xrd ; mine\n").unwrap();
    let [password, group] = config.warnings() else { panic!("{:?}", config.warnings()) };
    assert!(password.contains("`sasl.password`") && password.contains("quotation marks"), "{password}");
    assert!(group.contains("`group.id`") && group.contains("comment"), "{group}");
    assert!(!password.contains("hunter"), "{password}");
}

#[test]
fn a_secret_that_begins_with_a_dollar_sign_is_told_of_without_its_name() {
    let text = error("[broker]\nsasl.password = $ecretPassw0rd\n");
    for part in ["line 2", "`sasl.password`", "begins with `$`", "put it into a variable"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("ecretPassw0rd"), "{text}");
}

#[test]
fn each_usual_slip_in_a_login_has_its_own_hint() {
    let login = "[broker]\nbootstrap.servers = a:1\nsecurity.protocol = SASL_SSL\nsasl.password = ";
    for (value, hint) in [
        ("$MOUNTED", "ends with a line break"),
        ("$TWO_LINES", "has several lines"),
        ("$EMPTY", "is set, but empty"),
        ("", "no value behind the `=`"),
    ] {
        let refused = load(&format!("{login}{value}\n")).unwrap_err();
        let text = refused.to_string();
        assert!(text.contains("line 4, key `sasl.password`") && text.contains(hint), "{value}: {text}");
        assert!(!format!("{text} {refused:?}").contains("hunter"), "{refused:?}");
    }
    for (value, hint) in [
        ("$BLANK", "begins or ends with a blank"),
        ("$QUOTED", "remove them if they are not meant"),
        ("'hunter2'", "remove them if they are not meant"),
        ("hunter2 # for the lab", "a line of its own"),
    ] {
        let config = load(&format!("{login}{value}\n")).unwrap();
        let [warning] = config.warnings() else { panic!("{value}: {:?}", config.warnings()) };
        assert!(warning.contains("line 4, key `sasl.password`") && warning.contains(hint), "{value}: {warning}");
        assert!(!warning.contains("hunter"), "{warning}");
    }
    // where nobody logs in, the value has no effect
    let config = load_with_broker("sasl.password = $EMPTY\n").unwrap();
    assert!(config.warnings()[0].contains("is set, but empty"), "{:?}", config.warnings());
    let config = load_with_broker("[s3]\nsecret_key_id = $EMPTY\n").unwrap();
    assert!(config.section("s3").unwrap_err().to_string().contains("is set, but empty"));
    // a certificate ends with a line break
    assert!(load_with_broker("ssl.ca.pem = $TWO_LINES\n").unwrap().warnings().is_empty());
}

#[cfg(unix)]
#[test]
fn a_file_with_a_password_that_everybody_can_read_is_warned_of_once() {
    use std::os::unix::fs::PermissionsExt;

    let warned = |text: &str, file_mode: u32, folder_mode: u32| {
        let folder = Folder::with("lab.config", text);
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        set(&folder.folder.path().join("lab.config"), file_mode);
        set(folder.folder.path(), folder_mode);
        folder.load("lab").unwrap().warnings().to_vec()
    };
    let text =
        "[broker]\nbootstrap.servers = a:1\nsasl.username = me\nsasl.password = hunter2\nssl.key.password = hunter3\n";
    let [warning] = &warned(text, 0o644, 0o755)[..] else { panic!("one warning") };
    for part in ["every user", "lab.config`", "line 4", "chmod o-r", "`$NAME`"] {
        assert!(warning.contains(part), "{warning}");
    }
    assert!(!warning.contains("hunter"), "{warning}");
    assert!(warned(text, 0o640, 0o755).is_empty());
    assert!(warned(text, 0o644, 0o700).is_empty());
    assert!(warned("[broker]\nbootstrap.servers = a:1\nsasl.password = $PASSWORD\n", 0o644, 0o755).is_empty());
}

#[test]
fn the_path_of_a_log_begins_at_the_folder_of_its_configuration() {
    let folder = Folder::with("lab.config", "[broker]\nbootstrap.servers = sqlite:logs/lab.db\n");
    let servers = |config: &Config| get(&config.properties().broker, SERVERS).unwrap().to_owned();
    let beside = folder.folder.path().join("logs/lab.db");
    let config = folder.load("lab").unwrap();
    assert_eq!(servers(&config), format!("sqlite:{}", beside.display()));
    assert!(config.warnings().is_empty());

    // what the first release did with such a path is in the current folder
    let here = tempfile::tempdir_in(".").unwrap();
    let name = format!("{}/lab.db", here.path().file_name().unwrap().to_str().unwrap());
    fs::write(&name, "").unwrap();
    let text = format!("[broker]\nbootstrap.servers = sqlite:{name}\n");
    fs::write(folder.folder.path().join("old.config"), text).unwrap();
    let config = folder.load("old").unwrap();
    assert_eq!(servers(&config), format!("sqlite:{name}"));
    assert!(config.warnings()[0].contains("in the current folder, as there is no"), "{:?}", config.warnings());
    let beside = folder.folder.path().join(&name);
    fs::create_dir_all(beside.parent().unwrap()).unwrap();
    fs::write(&beside, "").unwrap();
    let config = folder.load("old").unwrap();
    assert_eq!(servers(&config), format!("sqlite:{}", beside.display()));
    assert!(config.warnings()[0].contains("not `"), "{:?}", config.warnings());
}

#[test]
fn heartbeats_and_log_messages_may_have_a_log_of_their_own() {
    let config = load(USUAL).unwrap();
    assert!(config.properties_of("heartbeat").unwrap().is_none());

    let config =
        load("[broker]\nbootstrap.servers = a:1\n[producer]\nlinger.ms = 5\n[heartbeat]\nlinger.ms = 7\n").unwrap();
    let properties = config.properties_of("heartbeat").unwrap().unwrap();
    assert_eq!(get(&properties.broker, SERVERS), Some("a:1"));
    assert_eq!(get(&properties.producer, "linger.ms"), Some("7"));
    assert_eq!(get(&config.properties().producer, "linger.ms"), Some("5"));

    let config = load(
        "[broker]\nbootstrap.servers = a:1\n[log]\nbootstrap.servers = b:1\nretries = 3.0\nmax.logs.per.message = 10\nlog.level = Warning\n",
    )
    .unwrap();
    let properties = config.properties_of("log").unwrap().unwrap();
    assert_eq!(get(&properties.broker, SERVERS), Some("b:1"));
    assert_eq!(get(&properties.broker, "retries"), Some("3"));
    assert_eq!(config.log_topic().unwrap(), LogTopicSettings { max_lines: 10, level: Some(LogLevel::Warning) });

    let config = load_with_broker("[log]\nprefer.separate.producer = True\n").unwrap();
    assert!(config.properties_of("log").unwrap().is_some());
    assert_eq!(config.log_topic().unwrap(), LogTopicSettings { max_lines: 65_536, level: None });
    let config =
        load_with_broker("[log]\nprefer.separate.producer = perhaps\nmax.logs.per.message = 0\nlog.level = loud\n")
            .unwrap();
    assert!(matches!(config.properties_of("log"), Err(SettingsError::BadValue { .. })));
    assert!(config.log_topic().is_err());
}
