//! The client against a real supervisord.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is a failed test")]

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use vast_portal::Error;
use vast_portal::supervisor::{Client, Process, State};

struct Supervisord {
    process: Child,
    directory: tempfile::TempDir,
}

impl Supervisord {
    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("sv-").tempdir().unwrap();
        let at = directory.path().display();
        let configuration = format!(
            "[unix_http_server]\nfile={at}/sock\nchmod=0700\n\
             [supervisord]\nnodaemon=true\nuser=root\nlogfile={at}/log\npidfile={at}/pid\nchildlogdir={at}\n\
             [rpcinterface:supervisor]\nsupervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface\n\
             [program:idle]\ncommand=/bin/sleep 1000\nstartsecs=0\nstopwaitsecs=1\n\
             [program:off]\ncommand=/bin/sleep 1000\nautostart=false\nstartsecs=0\nstopwaitsecs=1\n\
             [program:broken]\ncommand=/nonexistent/<program> & more\nautostart=false\nstartretries=0\n"
        );
        let file = directory.path().join("conf");
        std::fs::write(&file, configuration).unwrap();
        let process = Command::new("/usr/bin/supervisord")
            .args(["-n", "-c"])
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { process, directory }
    }

    fn client(&self) -> Client {
        Client::new(self.directory.path().join("sock"))
    }
}

impl Drop for Supervisord {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.process);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.process.wait();
    }
}

/// Asks until the process is as wanted; a state passes through others on its way.
async fn until(client: &Client, name: &str, wanted: impl Fn(&Process) -> bool) -> Process {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let found = client.processes().await.ok().and_then(|all| all.into_iter().find(|process| process.name == name));
        match found {
            Some(process) if wanted(&process) => return process,
            seen => assert!(Instant::now() < end, "{name} stays {seen:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn processes_are_listed_started_stopped_and_restarted() {
    let supervisord = Supervisord::start();
    let client = supervisord.client();
    let idle = until(&client, "idle", |process| process.state == State::Running).await;
    assert!(idle.pid.is_some() && idle.uptime_s.is_some());

    client.restart("idle").await.unwrap();
    let again = until(&client, "idle", |process| process.state == State::Running).await;
    assert_ne!(again.pid, idle.pid);

    client.stop("idle").await.unwrap();
    let stopped = until(&client, "idle", |_| true).await;
    assert_eq!((stopped.state, stopped.pid, stopped.uptime_s), (State::Stopped, None, None));

    client.restart("off").await.unwrap();
    until(&client, "off", |process| process.state == State::Running).await;
}

#[tokio::test]
async fn faults_are_errors_that_name_the_process() {
    let supervisord = Supervisord::start();
    let client = supervisord.client();
    until(&client, "idle", |process| process.state == State::Running).await;
    for (outcome, code, text) in [
        (client.start("idle").await, 60, "ALREADY_STARTED: idle"),
        (client.stop("off").await, 70, "NOT_RUNNING: off"),
        (client.stop("<&>").await, 10, "BAD_NAME: <&>"),
        (client.start("broken").await, 20, "NO_FILE: "),
    ] {
        let Err(Error::SupervisorFault { code: said, fault, .. }) = outcome else { panic!("{outcome:?}") };
        assert_eq!(said, code, "{fault}");
        assert!(fault.starts_with(text), "{fault}");
    }
}

#[tokio::test]
async fn an_absent_supervisor_is_an_error_with_its_socket() {
    let error = Client::new(Path::new("/nonexistent/supervisor.sock")).processes().await.unwrap_err();
    assert!(error.to_string().contains("/nonexistent/supervisor.sock"), "{error}");
    assert!(error.hint().is_some());
}
