//! What the instructions do.

use serde_json::json;

use super::support::Workplace;

#[test]
fn configuration_instructions_have_dockers_meaning() {
    let workplace = Workplace::new(
        "ARG GLOBAL=g\n\
         FROM scratch\n\
         ARG GLOBAL\n\
         ARG OWN=${GLOBAL}2\n\
         ENV A=1 B=\"two words\"\n\
         ENV C=$A D=${B:-x} PATH=/opt/bin:${PATH}\n\
         ENV A=2 E=$A\n\
         LABEL own=$OWN \"with space\"='$A'\n\
         USER 1001:0\n\
         WORKDIR /srv\n\
         WORKDIR ./x/../app/\n\
         EXPOSE 8080 53/udp 9000-9001\n\
         VOLUME /data\n\
         SHELL [\"/bin/bash\", \"-c\"]\n\
         STOPSIGNAL SIGINT\n\
         HEALTHCHECK --interval=30s CMD [\"/check\"]\n\
         CMD echo $A\n\
         ENTRYPOINT [\"/start\"]\n",
    );
    let built = workplace.build();
    let document = built.config();
    let config = &document["config"];
    assert_eq!(
        config["Env"],
        json!([
            "PATH=/opt/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "A=2",
            "B=two words",
            "C=1",
            "D=two words",
            "E=1"
        ])
    );
    assert_eq!(config["Labels"]["own"], "g2");
    assert_eq!(config["Labels"]["with space"], "$A");
    assert_eq!(config["User"], "1001:0");
    assert_eq!(config["WorkingDir"], "/srv/app");
    assert_eq!(config["ExposedPorts"], json!({"8080/tcp": {}, "53/udp": {}, "9000/tcp": {}, "9001/tcp": {}}));
    assert_eq!(config["Volumes"], json!({"/data": {}}));
    assert_eq!(config["StopSignal"], "SIGINT");
    assert_eq!(config["Healthcheck"], json!({"Test": ["CMD", "/check"], "Interval": 30_000_000_000_u64}));
    assert_eq!(config["Cmd"], json!(["/bin/bash", "-c", "echo $A"]));
    assert_eq!(config["Entrypoint"], json!(["/start"]));
    let history = document["history"].as_array().unwrap();
    assert_eq!(history.len(), 16);
    let layers = history.iter().filter(|line| line["empty_layer"] != true).count();
    assert_eq!(layers, document["rootfs"]["diff_ids"].as_array().unwrap().len());
    assert_eq!(layers, 2, "each WORKDIR made a directory");
    assert_eq!(document["created"], "1980-01-01T00:00:00Z");
}

#[test]
fn stages_contexts_and_inline_files_are_copied_from() {
    let workplace = Workplace::new(
        "FROM scratch AS one\n\
         COPY a /from/a\n\
         COPY --chown=7:8 --chmod=600 a /from/private\n\
         FROM scratch AS unused\n\
         RUN this is never needed\n\
         FROM scratch\n\
         COPY --from=one /from /copied\n\
         COPY --from=0 /from/a /by-number\n\
         COPY --from=extra sub/*.txt /texts/\n\
         ARG NAME=world\n\
         COPY <<greeting <<\"raw\" /inline/\n\
         hello $NAME\n\
         greeting\n\
         $NAME stays\n\
         raw\n",
    )
    .file("a", "A");
    let extra = workplace.path("extra/sub");
    std::fs::create_dir_all(&extra).unwrap();
    for name in ["one.txt", "two.txt", "three.md"] {
        std::fs::write(extra.join(name), name).unwrap();
    }
    let built = workplace
        .build_as("result", |options| {
            let context = vast_imagegen::build::NamedContext::Directory(workplace.path("extra"));
            options.contexts.insert("extra".into(), context);
        })
        .unwrap();
    let listing: Vec<String> = built.listing().into_iter().map(|(path, line)| format!("{path} {line}")).collect();
    assert_eq!(
        listing,
        [
            "/by-number 644 0:0 file \"A\"",
            "/copied 755 0:0 dir",
            "/copied/a 644 0:0 file \"A\"",
            "/copied/private 600 7:8 file \"A\"",
            "/inline 755 0:0 dir",
            "/inline/greeting 644 0:0 file \"hello world\\n\"",
            "/inline/raw 644 0:0 file \"$NAME stays\\n\"",
            "/texts 755 0:0 dir",
            "/texts/one.txt 644 0:0 file \"one.txt\"",
            "/texts/two.txt 644 0:0 file \"two.txt\"",
        ]
    );
}

#[test]
fn local_archives_are_unpacked_by_add_and_copied_by_copy() {
    let workplace = Workplace::new("FROM scratch\nADD a.tar.gz /un/\nADD --unpack=false a.tar.gz /kept/\nCOPY a.tar.gz /copied\nADD plain.txt /plain\n")
        .file("plain.txt", "plain");
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(
        std::fs::File::create(workplace.path("image/a.tar.gz")).unwrap(),
        flate2::Compression::fast(),
    ));
    let mut header = tar::Header::new_ustar();
    header.set_size(2);
    header.set_mode(0o750);
    header.set_uid(5);
    header.set_gid(6);
    header.set_mtime(77);
    archive.append_data(&mut header, "bin/tool", &b"hi"[..]).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
    let listing = workplace.build().listing();
    assert_eq!(listing["/un/bin/tool"], "750 5:6 file \"hi\"");
    assert_eq!(listing["/plain"], "644 0:0 file \"plain\"");
    assert!(listing["/copied"].starts_with("644 0:0 file \"\\u{1f}"), "{}", listing["/copied"]);
    assert_eq!(listing["/kept/a.tar.gz"], listing["/copied"]);
}

#[test]
fn names_of_owners_come_from_the_images_own_databases() {
    let workplace =
        Workplace::new("FROM scratch\nCOPY etc /etc/\nCOPY --chown=user f /a\nCOPY --chown=user:video f /b\n")
            .file("etc/passwd", "root:x:0:0::/root:/bin/sh\nuser:x:1001:0::/home/user:/bin/sh\n")
            .file("etc/group", "root:x:0:\nvideo:x:44:\n")
            .file("f", "");
    let listing = workplace.build().listing();
    assert!(listing["/a"].starts_with("644 1001:0 "), "{}", listing["/a"]);
    assert!(listing["/b"].starts_with("644 1001:44 "), "{}", listing["/b"]);
    let (said, hint) = Workplace::new("FROM scratch\nCOPY --chown=user Dockerfile /a\n").refusal(|_| ());
    assert_eq!(said, "image/Dockerfile:2: user `user` does not exist in the image");
    assert_eq!(hint.as_deref(), Some("use numbers: --chown=UID:GID"));
}

#[test]
fn the_environment_hash_is_that_of_the_image_laid_out() {
    let workplace =
        Workplace::new("FROM scratch\nCOPY ROOT /\nRUN set -euo pipefail && \\\n    env-hash > /.env_hash\n")
            .file("ROOT/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n")
            .file(
                "ROOT/var/lib/dpkg/status",
                "Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1:1.2.13\n\n",
            )
            .file("ROOT/usr/share/doc/irrelevant", "x");
    let recorded = workplace.build().listing()["/.env_hash"].clone();
    let options =
        vast_envhash::Options { live: false, machine: Some(std::env::consts::ARCH.to_owned()), ..Default::default() };
    let expected = vast_envhash::hash(&workplace.path("image/ROOT"), &options).unwrap();
    assert_eq!(recorded, format!("644 0:0 file \"{}\\n\"", expected.hash));
}

#[test]
fn scripts_without_their_bit_are_warned_about() {
    let workplace = Workplace::new("FROM scratch\nCOPY ./ROOT /\n")
        .file("ROOT/opt/supervisor-scripts/app.sh", "#!/bin/bash\n")
        .program("ROOT/opt/supervisor-scripts/good.sh");
    workplace.build();
    let warnings = workplace.warnings.0.lock().unwrap().clone();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("`ROOT/opt/supervisor-scripts/app.sh` is not executable"));
}

#[test]
fn several_platforms_make_one_index() {
    let workplace = Workplace::new("FROM scratch\nARG TARGETARCH\nLABEL arch=$TARGETARCH\nCOPY Dockerfile /f\n");
    let built = workplace
        .build_as("result", |options| {
            options.platforms = ["linux/amd64", "linux/arm64"].iter().map(|text| text.parse().unwrap()).collect();
        })
        .unwrap();
    let transports = super::support::transports();
    super::support::run(async {
        let source = vast_imagegen::transport::open_source(&built.reference, &transports).await.unwrap();
        assert_eq!(source.top().await.unwrap().digest().to_string(), built.digest);
        for architecture in ["amd64", "arm64"] {
            let image = source.image(&format!("linux/{architecture}").parse().unwrap()).await.unwrap();
            let config: serde_json::Value = serde_json::from_slice(&image.raw_config).unwrap();
            assert_eq!(config["config"]["Labels"]["arch"], architecture);
            assert_eq!(config["architecture"], architecture);
        }
    });
}
