import java.util.ArrayList;
import java.util.List;
import org.elasticsearch.core.CheckedFunction;
import org.elasticsearch.core.TimeValue;
import org.elasticsearch.xcontent.NamedXContentRegistry;
import org.elasticsearch.xcontent.ParseField;
import org.elasticsearch.xcontent.XContentParser;
import org.elasticsearch.xcontent.XContentParserConfiguration;
import org.elasticsearch.xcontent.json.JsonXContent;
import org.elasticsearch.xpack.core.ilm.DeleteAction;
import org.elasticsearch.xpack.core.ilm.ForceMergeAction;
import org.elasticsearch.xpack.core.ilm.LifecycleAction;
import org.elasticsearch.xpack.core.ilm.LifecyclePolicy;
import org.elasticsearch.xpack.core.ilm.LifecycleType;
import org.elasticsearch.xpack.core.ilm.RolloverAction;
import org.elasticsearch.xpack.core.ilm.SetPriorityAction;
import org.elasticsearch.xpack.core.ilm.TimeseriesLifecycleType;
import org.elasticsearch.xpack.core.ilm.action.PutLifecycleRequest;

/** Reads a request to put a policy, as the endpoint does that the engine of the tests lacks; says why it is refused. */
class Lifecycle {
    private static final List<NamedXContentRegistry.Entry> KNOWN = new ArrayList<>();

    public static void main(String[] arguments) throws Exception {
        know(LifecycleType.class, TimeseriesLifecycleType.TYPE, parser -> TimeseriesLifecycleType.INSTANCE);
        know(LifecycleAction.class, RolloverAction.NAME, RolloverAction::parse);
        know(LifecycleAction.class, SetPriorityAction.NAME, SetPriorityAction::parse);
        know(LifecycleAction.class, ForceMergeAction.NAME, ForceMergeAction::parse);
        know(LifecycleAction.class, DeleteAction.NAME, DeleteAction::parse);
        var registry = XContentParserConfiguration.EMPTY.withRegistry(new NamedXContentRegistry(KNOWN));

        var factory = new PutLifecycleRequest.Factory() {
            @Override
            public PutLifecycleRequest create(LifecyclePolicy policy) {
                return new PutLifecycleRequest(TimeValue.ZERO, TimeValue.ZERO, policy);
            }

            @Override
            public String getPolicyName() {
                return "csb-logs";
            }
        };
        try (XContentParser parser = JsonXContent.jsonXContent.createParser(registry, System.in)) {
            var wrong = PutLifecycleRequest.parseRequest(factory, parser).validate();
            if (wrong != null) {
                throw wrong;
            }
        }
    }

    private static <T> void know(Class<T> kind, String name, CheckedFunction<XContentParser, T, java.io.IOException> read) {
        KNOWN.add(new NamedXContentRegistry.Entry(kind, new ParseField(name), read));
    }
}
