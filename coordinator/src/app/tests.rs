use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use super::*;
use crate::testing::Coordinator;

#[tokio::test]
async fn one_coordinator_has_a_data_folder() {
    let coordinator = Coordinator::start().await;
    let Err(second) = App::start(coordinator.config()).await else { panic!("two started") };
    let text = format!("{second:#}");
    assert!(text.contains("another coordinator") && text.contains(&std::process::id().to_string()), "{text}");
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let coordinator = Coordinator::start().await;
    let mut health = HealthClient::new(coordinator.channel.clone());
    for service in ["", "dewpoint.fleet.v1.Vms"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut reflection = ServerReflectionClient::new(coordinator.channel.clone());
    let answers = reflection.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
    let answer = answers.into_inner().message().await.unwrap().unwrap();
    let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
        panic!("{answer:?}")
    };
    let names: Vec<_> = listed.service.iter().map(|service| service.name.as_str()).collect();
    assert!(
        names.contains(&"dewpoint.fleet.v1.Vms") && names.contains(&"dewpoint.agent.v1.AgentLink"),
        "{names:?}"
    );
}

#[tokio::test]
async fn a_watch_ends_when_the_coordinator_stops() {
    let coordinator = Coordinator::start().await;
    let request = dewpoint_proto::wire::fleet::WatchEventsRequest::default();
    let mut watch = coordinator.events().watch_events(request).await.unwrap().into_inner();
    assert!(watch.message().await.unwrap().unwrap().snapshot_complete);
    let stopping = tokio::spawn(coordinator.stop());
    let cause = dewpoint_proto::status::from_status(&watch.message().await.unwrap_err());
    assert_eq!(cause.reason, dewpoint_proto::cause::Reason::Unreachable);
    drop(watch);
    stopping.await.unwrap();
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_clean_stop() {
    let mut coordinator = Coordinator::start().await;
    let digest = coordinator.image("tiny").await;
    coordinator.kill_and_open().await;
    let request = dewpoint_proto::wire::fleet::GetImageRequest { image: "tiny".into() };
    assert_eq!(coordinator.images().get_image(request).await.unwrap().into_inner().digest, digest);
}

#[tokio::test]
async fn whoever_watches_the_health_hears_of_the_stop() {
    let coordinator = Coordinator::start().await;
    let mut health = HealthClient::new(coordinator.channel.clone());
    let mut watches = Vec::new();
    for service in ["", "dewpoint.fleet.v1.Vms"] {
        let request = HealthCheckRequest { service: service.into() };
        let mut watch = health.watch(request).await.unwrap().into_inner();
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
        watches.push(watch);
    }
    let stopping = tokio::spawn(coordinator.stop());
    for mut watch in watches {
        assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    }
    stopping.await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_answers_beside_the_address() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::testing::config(folder.path());
    let path = folder.path().join("c.sock");
    config.socket = Some(path.clone());
    let running = App::start(config).await.unwrap();
    let endpoint = tonic::transport::Endpoint::from_shared(format!("unix://{}", path.display())).unwrap();
    for channel in [endpoint.connect().await.unwrap(), crate::testing::dial(&running)] {
        let answer = HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
    running.shutdown().await;
}
