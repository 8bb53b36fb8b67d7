"""The API of service hook subscriptions."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from emulators.azure_devops.answers import Answer, Json, Refusal, json_answer, list_answer, timestamp
from emulators.azure_devops.delivery import Delivery
from emulators.azure_devops.hosted import SERVICE
from emulators.azure_devops.receivers import Subscription
from emulators.azure_devops.request import Request

if TYPE_CHECKING:
    from emulators.azure_devops.organisation import Organisation

_FILTERS = ("publisherId", "eventType", "consumerId", "consumerActionId")
_MASK = "********"
_NAMESPACE = "Microsoft.VisualStudio.Services.ServiceHooks.WebApi"


def get_all(organisation: "Organisation", request: Request) -> Answer:
    wanted = {name: request.text(name) for name in _FILTERS if request.text(name)}
    found = [
        one.shape()
        for one in organisation.deliveries.subscriptions()
        if all(one.data.get(name) == value for name, value in wanted.items())
    ]
    return list_answer(found[:-1] if request.is_partial else found)


def query(organisation: "Organisation", request: Request) -> Answer:
    """The question comes back with its `results`."""
    asked: dict[str, Any] = request.object()
    found = [
        one.shape()
        for one in organisation.deliveries.subscriptions()
        if all(asked.get(name) in (None, "", one.data.get(name)) for name in _FILTERS)
        and _passes(one.data["publisherInputs"], asked.get("publisherInputFilters") or [])
        and _passes(one.data["consumerInputs"], asked.get("consumerInputFilters") or [])
    ]
    return json_answer({**asked, "results": found[:-1] if request.is_partial else found})


def _passes(inputs: Json, filters: list[Json]) -> bool:
    """One filter has to hold; all conditions of it."""
    return not filters or any(
        all(
            (inputs.get(condition["inputId"], "") == condition.get("inputValue", ""))
            is (condition.get("operator", "equals") == "equals")
            for condition in one.get("conditions") or []
        )
        for one in filters
    )


def post(organisation: "Organisation", request: Request) -> Answer:
    return json_answer(create(organisation, request.object()).shape())


def create(organisation: "Organisation", asked: Json) -> Subscription:
    _check(asked)
    subscription_id = str(uuid4())
    own = {"hostId": organisation.id, "tfsSubscriptionId": str(uuid4())}
    inputs = {**(asked.get("publisherInputs") or {}), **own}
    now = timestamp()
    data = {
        "id": subscription_id,
        "url": f"{organisation.url}/_apis/hooks/subscriptions/{subscription_id}",
        "status": "enabled",
        "publisherId": asked["publisherId"],
        "eventType": asked["eventType"],
        "subscriber": None,
        "resourceVersion": asked.get("resourceVersion") or "1.0",
        "eventDescription": _description(organisation, inputs),
        "consumerId": asked["consumerId"],
        "consumerActionId": asked["consumerActionId"],
        "actionDescription": f"To host {urlsplit(asked['consumerInputs']['url']).hostname}",
        "createdBy": SERVICE.shape(organisation.url),
        "createdDate": now,
        "modifiedBy": SERVICE.shape(organisation.url),
        "modifiedDate": now,
        "publisherInputs": inputs,
        "consumerInputs": dict(asked["consumerInputs"]),
        "_links": _links(organisation, subscription_id),
    }
    subscription = Subscription(subscription_id, data)
    organisation.deliveries.keep(subscription)
    return subscription


def get_one(organisation: "Organisation", request: Request) -> Answer:
    return json_answer(_find(organisation, request).shape())


def put(organisation: "Organisation", request: Request) -> Answer:
    """Replaces it, and enables it again unless it says otherwise. A masked secret stays what it was."""
    subscription = _find(organisation, request)
    asked: dict[str, Any] = request.object()
    _check(asked)
    old = subscription.inputs
    inputs = {name: old.get(name, "") if value == _MASK else value for name, value in asked["consumerInputs"].items()}
    own = {name: subscription.data["publisherInputs"][name] for name in ("hostId", "tfsSubscriptionId")}
    publisher = {**(asked.get("publisherInputs") or {}), **own}
    kept = {name: value for name, value in subscription.data.items() if name != "lastProbationRetryDate"}
    status = "disabledByUser" if asked.get("status") == "disabledByUser" else "enabled"
    data = {
        **kept,
        **{name: asked[name] for name in (*_FILTERS, "resourceVersion") if asked.get(name)},
        "status": status,
        "eventDescription": _description(organisation, publisher),
        "actionDescription": f"To host {urlsplit(inputs['url']).hostname}",
        "modifiedBy": SERVICE.shape(organisation.url),
        "modifiedDate": timestamp(),
        "publisherInputs": publisher,
        "consumerInputs": inputs,
    }
    organisation.deliveries.replace(subscription, data)
    return json_answer(subscription.shape())


def delete(organisation: "Organisation", request: Request) -> Answer:
    organisation.deliveries.remove(_find(organisation, request))
    return Answer(204)


def notifications(organisation: "Organisation", request: Request) -> Answer:
    """What was sent to one subscription, the newest first."""
    subscription = _find(organisation, request)
    found = [one for one in organisation.deliveries.attempts() if one.subscription is subscription]
    limit = request.number("maxResults") or 100
    return list_answer([_notification(one) for one in found[::-1][:limit]])


def _notification(one: Delivery) -> Json:
    return {
        "id": one.event.get("notificationId", 0),
        "subscriptionId": one.subscription.id,
        "eventId": one.event["id"],
        "status": "completed",
        "result": "succeeded" if one.is_success else "failed",
        "details": {
            "eventType": one.event["eventType"],
            "publisherId": one.event["publisherId"],
            "consumerId": one.subscription.data["consumerId"],
            "consumerActionId": one.subscription.data["consumerActionId"],
            "requestAttempts": one.attempt,
            "errorMessage": one.error or (None if one.is_success else f"The receiver answered {one.status}."),
        },
    }


def test(organisation: "Organisation", request: Request) -> Answer:
    """Sends the "Test" notification of a subscription that exists."""
    asked: dict[str, Any] = request.object()
    subscription = organisation.deliveries.find(str(asked.get("subscriptionId")))
    if subscription is None:
        raise _not_found(str(asked.get("subscriptionId")))
    organisation.deliveries.send_test(subscription)
    return json_answer({"id": 1, "subscriptionId": subscription.id, "status": "queued", "result": "pending"})


def _check(asked: Json) -> None:
    missing = [name for name in _FILTERS if not asked.get(name)]
    url = (asked.get("consumerInputs") or {}).get("url", "")
    if missing:
        message = f"Value cannot be null or empty. Parameter name: {missing[0]}"
        raise Refusal(400, "ArgumentException", message, namespace="System")
    if urlsplit(url).scheme not in ("http", "https"):
        message = "Subscription input 'url' is not valid: supply a value that is an absolute URI."
        raise Refusal(400, "SubscriptionInputException", message, namespace=_NAMESPACE)


def _description(organisation: "Organisation", inputs: Json) -> str:
    known = {one.id: one.name for one in organisation.repositories()}
    name = known.get(inputs.get("repository", ""))
    branch = inputs.get("branch")
    parts = [f"Repository {name}" if name else "Any repository", f"branch {branch}" if branch else "any branch"]
    return ", ".join(parts)


def _links(organisation: "Organisation", subscription_id: str) -> Json:
    here = f"{organisation.url}/_apis/hooks/subscriptions/{subscription_id}"
    return {
        "self": {"href": here},
        "consumer": {"href": f"{organisation.url}/_apis/hooks/consumers/webHooks"},
        "actions": {"href": f"{organisation.url}/_apis/hooks/consumers/webHooks/actions"},
        "notifications": {"href": f"{here}/notifications"},
        "publisher": {"href": f"{organisation.url}/_apis/hooks/publishers/tfs"},
    }


def _find(organisation: "Organisation", request: Request) -> Subscription:
    subscription_id = request.parameters["subscriptionId"]
    subscription = organisation.deliveries.find(subscription_id)
    if subscription is None:
        raise _not_found(subscription_id)
    return subscription


def _not_found(subscription_id: str) -> Refusal:
    message = f"The subscription with id {subscription_id} could not be found."
    return Refusal(404, "SubscriptionNotFoundException", message, namespace=_NAMESPACE)
