import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import oms.api.ClassesApi;
import oms.api.DatabasesApi;
import oms.api.EventsApi;
import oms.api.InstancesApi;
import oms.api.StreamsApi;
import oms.client.ApiClient;
import oms.client.ApiException;
import oms.model.Append;
import oms.model.ClassDefinition;
import oms.model.CreateDatabase;
import oms.model.CreateInstance;
import oms.model.Filter;
import oms.model.InstanceQuery;
import oms.model.NewEvent;
import oms.model.Problem;
import oms.model.PropertyDefinition;
import oms.model.SortSpec;

/** A round trip with a client that OpenAPI Generator made of docs/openapi.json. */
public final class RoundTrip {
    private static final ApiClient CLIENT = new ApiClient();

    interface Call {
        void run() throws ApiException;
    }

    static void same(Object found, Object expected) {
        if (!Objects.equals(found, expected)) {
            throw new AssertionError("expected " + expected + ", found " + found);
        }
    }

    /** The problem that a refused call is answered with. */
    static Problem problem(int status, String code, Call call) throws Exception {
        try {
            call.run();
        } catch (ApiException refused) {
            same(refused.getCode(), status);
            Problem problem = CLIENT.getObjectMapper().readValue(refused.getResponseBody(), Problem.class);
            same(problem.getCode(), code);
            same(problem.getStatus(), status);
            return problem;
        }
        throw new AssertionError("expected " + status + " " + code);
    }

    public static void main(String[] arguments) throws Exception {
        CLIENT.updateBaseUri(System.getenv("OMS_API"));
        String token = System.getenv("OMS_TOKEN");
        if (token != null) {
            CLIENT.setRequestInterceptor(request -> request.header("Authorization", "Bearer " + token));
        }
        String db = "java" + Long.toString(System.currentTimeMillis(), 36);
        var databases = new DatabasesApi(CLIENT);
        var instances = new InstancesApi(CLIENT);

        var database = new CreateDatabase().name(db);
        same(databases.createDatabase(database, null, null).getId(), db);
        problem(409, "database_exists", () -> databases.createDatabase(database, null, null));

        var film = new ClassDefinition().id("Film").label("Film")
            .addPropertiesItem(new PropertyDefinition().name("title").type("string").required(true)
                .constraints(Map.of("min_length", 1)))
            .addPropertiesItem(new PropertyDefinition().name("year").type("integer")
                .constraints(Map.of("min", 1888, "max", 2100)));
        new ClassesApi(CLIENT).createClass(db, film, null, null);

        var metropolis = new CreateInstance().id("f1").data(Map.of("title", "Metropolis", "year", 1927));
        var made = instances.createInstanceWithHttpInfo(db, "Film", metropolis, null, db + "-f1");
        same(made.getStatusCode(), 201);
        same(made.getHeaders().get("etag"), List.of("\"1\""));
        var wrong = new CreateInstance().data(Map.of("year", 1700));
        var refused = problem(422, "validation_failed",
            () -> instances.createInstance(db, "Film", wrong, null, null));
        same(refused.getViolations().size(), 2);

        var changed = instances.patchInstance(db, "Film", "f1", Map.of("year", 1926), null, null, "\"1\"");
        same(changed.getVersion(), 2L);
        var late = problem(412, "version_mismatch",
            () -> instances.patchInstance(db, "Film", "f1", Map.of("year", 1925), null, null, "\"1\""));
        same(late.getActualVersion(), 2L);

        var old = new InstanceQuery().addSortItem(new SortSpec("-year")).limit(10L)
            .addFiltersItem(new Filter().field("year").op(Filter.OpEnum.LT).value(1950));
        var page = instances.queryInstances(db, "Film", old, null, changed.getPosition(), null);
        same(page.getItems().size(), 1);
        same(page.getItems().get(0).getData(), Map.of("title", "Metropolis", "year", 1926));
        problem(404, "instance_not_found",
            () -> instances.getInstance(db, "Film", "nobody", null, null, null, null, null, null));

        var placed = new NewEvent().type("OrderPlaced").data(Map.of("total", 12.5));
        new StreamsApi(CLIENT).appendEvents("order", db, new Append().addEventsItem(placed), null, null, null);

        var types = new ArrayList<String>();
        String after = null;
        for (int pages = 0; pages < 1000; pages++) {
            var events = new EventsApi(CLIENT).readFeed(after, null, 100, null, null, null, null, null);
            if (events.getItems().isEmpty()) {
                break;
            }
            for (var event : events.getItems()) {
                if (event.getStreamid().split("/")[0].equals(db)) {
                    types.add(event.getStreamversion() + " " + event.getType());
                }
            }
            after = events.getNextCursor();
        }
        types.sort(null);
        same(types, List.of("1 ClassCreated", "1 DatabaseCreated", "1 InstanceCreated", "1 OrderPlaced",
            "2 InstanceUpdated"));
        same(new EventsApi(CLIENT).getCommand(changed.getCommandId(), null, null, null).getStatus().getValue(),
            "committed");
        instances.deleteInstance(db, "Film", "f1", null, null, null);
        System.out.println("Java: the round trip on " + db + " is done");
    }
}
