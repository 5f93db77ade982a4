import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.StringJoiner;
import org.apache.lucene.analysis.Analyzer;
import org.apache.lucene.analysis.en.EnglishAnalyzer;
import org.apache.lucene.analysis.tokenattributes.CharTermAttribute;
import org.apache.lucene.document.Document;
import org.apache.lucene.document.Field;
import org.apache.lucene.document.FieldType;
import org.apache.lucene.document.StoredField;
import org.apache.lucene.document.TextField;
import org.apache.lucene.index.DirectoryReader;
import org.apache.lucene.index.IndexOptions;
import org.apache.lucene.index.IndexWriter;
import org.apache.lucene.index.IndexWriterConfig;
import org.apache.lucene.index.LogDocMergePolicy;
import org.apache.lucene.index.Term;
import org.apache.lucene.search.BooleanClause.Occur;
import org.apache.lucene.search.BooleanQuery;
import org.apache.lucene.search.BoostQuery;
import org.apache.lucene.search.IndexSearcher;
import org.apache.lucene.search.Query;
import org.apache.lucene.search.TermQuery;
import org.apache.lucene.search.similarities.BM25Similarity;
import org.apache.lucene.store.FSDirectory;
import org.apache.lucene.util.Version;

/** Lucene as a peer of kard: does what the lines of its input say, which peers.py writes. */
public class Lucene {
    static final Analyzer ANALYZER = new EnglishAnalyzer();
    static final BM25Similarity BM25 = new BM25Similarity(1.2f, 0.75f);

    public static void main(String[] args) throws IOException {
        System.out.println("Lucene " + Version.LATEST + ", Java " + Runtime.version());
        var lines = new BufferedReader(new InputStreamReader(System.in));
        IndexSearcher searcher = null;
        for (String line; (line = lines.readLine()) != null; ) {
            var words = line.split("\t");
            switch (words[0]) {
                case "index" -> index(Path.of(words[1]), Path.of(words[2]));
                case "open" -> searcher = open(Path.of(words[1]));
                case "search" -> search(searcher, words);
                default -> throw new IllegalArgumentException(line);
            }
            System.out.println("done");
        }
    }

    /** Each line has a document's key, a title and a text; all three are stored, the last two are searched. */
    static void index(Path passages, Path folder) throws IOException {
        var searched = new FieldType(TextField.TYPE_NOT_STORED);
        searched.setIndexOptions(IndexOptions.DOCS_AND_FREQS);
        // One segment, so that Lucene's number of a passage is its line.
        var config = new IndexWriterConfig(ANALYZER).setSimilarity(BM25).setRAMBufferSizeMB(512);
        config.setMergePolicy(new LogDocMergePolicy());
        try (var writer = new IndexWriter(FSDirectory.open(folder), config);
                var lines = Files.newBufferedReader(passages)) {
            for (String line; (line = lines.readLine()) != null; ) {
                var parts = line.split("\t");
                var document = new Document();
                document.add(new StoredField("document", parts[0]));
                document.add(new StoredField("title", parts[1]));
                document.add(new StoredField("passage", parts[2]));
                document.add(new Field("text", parts[1] + "\n" + parts[2], searched));
                writer.addDocument(document);
            }
            writer.forceMerge(1);
        }
    }

    static IndexSearcher open(Path folder) throws IOException {
        var reader = DirectoryReader.open(FSDirectory.open(folder));
        if (reader.leaves().size() != 1) throw new IllegalStateException("more than one segment");
        var searcher = new IndexSearcher(reader);
        searcher.setSimilarity(BM25);
        searcher.setQueryCache(null);
        return searcher;
    }

    /** `search QUERIES K MAX_DF TEXT OUT`: a query a line; OUT gets the numbers of its best passages, if it is named. */
    static void search(IndexSearcher searcher, String[] words) throws IOException {
        int k = Integer.parseInt(words[2]);
        double highest = Double.parseDouble(words[3]) * searcher.getIndexReader().numDocs();
        try (var out = words[5].equals("-") ? null : new PrintWriter(words[5]);
                var queries = Files.newBufferedReader(Path.of(words[1]))) {
            for (String text; (text = queries.readLine()) != null; ) {
                var hits = searcher.search(query(searcher, text, highest), k).scoreDocs;
                if (out == null) continue;
                var numbers = new StringJoiner(" ");
                for (var hit : hits) numbers.add(Integer.toString(hit.doc));
                out.println(numbers);
            }
        }
    }

    static Query query(IndexSearcher searcher, String text, double highest) throws IOException {
        var counts = new LinkedHashMap<String, Integer>();
        try (var stream = ANALYZER.tokenStream("text", text)) {
            var term = stream.addAttribute(CharTermAttribute.class);
            stream.reset();
            while (stream.incrementToken()) counts.merge(term.toString(), 1, Integer::sum);
            stream.end();
        }
        var query = new BooleanQuery.Builder();
        for (var entry : counts.entrySet()) {
            var term = new Term("text", entry.getKey());
            if (searcher.getIndexReader().docFreq(term) > highest) continue;
            Query one = new TermQuery(term);
            query.add(entry.getValue() == 1 ? one : new BoostQuery(one, entry.getValue()), Occur.SHOULD);
        }
        return query.build();
    }
}
